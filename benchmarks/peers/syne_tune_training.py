"""The training script that Syne Tune's local backend starts for each trial.

As https://syne-tune.readthedocs.io/en/latest/getting_started.html has it: hyperparameters come as
arguments, metrics go out through a Reporter.
"""

from argparse import ArgumentParser

from plain_training import train
from syne_tune import Reporter  # pyright: ignore[reportMissingImports]

TYPES = {
    **{"images": str, "weights": str, "optimizer": str, "scheduler": str},
    **{"epochs": int, "seed": int, "input_size": int, "batch_size": int, "unfrozen": int},
    "learning_rate": float,
}

if __name__ == "__main__":
    parser = ArgumentParser()
    for name, kind in TYPES.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    arguments, _ = parser.parse_known_args()
    report = Reporter()
    train(
        vars(arguments),
        lambda epoch, accuracy, gflops: report(epoch=epoch, error=1 - accuracy, gflops=gflops),
    )
