"""Ray and Optuna: proposes recipes, runs trials, writes the run folder; holds the command line."""
