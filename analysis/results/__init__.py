"""A run's results, as numbers and tables."""
