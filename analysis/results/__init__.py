"""What a run tells, as numbers and tables."""
