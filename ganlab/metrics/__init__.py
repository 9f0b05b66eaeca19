"""Metrics, feature extractors, and the evaluator that compares a generator with real examples."""
