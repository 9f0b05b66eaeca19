"""Sweeps: many runs, one folder."""
