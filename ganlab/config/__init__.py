"""Composes, validates and reads configs, and turns Hydra's errors into one-line messages."""
