"""The folder of a run: its metrics and result, checkpoints, provenance, and the files that Hydra writes."""
