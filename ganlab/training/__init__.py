"""Training: the step, the loop, and their diagnostics, signals and progress display."""
