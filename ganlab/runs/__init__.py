"""The folder of a run: its record, checkpoints, provenance, and what Hydra wrote there."""
