"""The study file, and what is checked before anything starts."""
