"""Counts what a model's forward pass and its training take, without running either."""
