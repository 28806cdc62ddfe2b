"""torch: data, models, costs and the training loop. Only trial.py uses Ray."""
