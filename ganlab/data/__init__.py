"""Datasets, and the batches drawn from them."""
