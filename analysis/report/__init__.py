"""A run's report: one HTML page that needs no network."""
