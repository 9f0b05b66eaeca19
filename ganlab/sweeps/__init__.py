"""Sweeps: many runs of one command, each in its own process, with optional successive halving."""
