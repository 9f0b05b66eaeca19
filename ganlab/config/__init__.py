"""Composing, checking and reading configs: what Hydra leaves to us, and what it should not show to a user."""
