"""What a search writes, and where: trial records, Optuna's storage, the run folder, checkpoints."""
