"""What is done with a run afterwards: confirm, ablate, retrain, export, report."""
