"""What can be done with a finished run: confirm, ablate, retrain, export, report."""
