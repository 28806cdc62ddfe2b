"""torch: data, models, costs and the training loop. Ray in trial.py alone."""
