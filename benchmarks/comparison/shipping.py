"""Puts the tables of a run into the repository: what analysis and a replay read of it."""

import shutil
from pathlib import Path

import pandas as pd

from comparison.images import WEIGHTS
from spaces.yaml_files import MOST_BYTES_OF_A_RUN, read_yaml_mapping, write_yaml


def ship(run: Path, to: Path) -> None:
    """Replace a folder by a run's tables; no checkpoint, no image, no path of this machine."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    study = read_yaml_mapping(run / "study.yaml", most_bytes=MOST_BYTES_OF_A_RUN)
    study["data"]["path"], study["storage"] = "data", "runs"
    study["space"]["weights"]["fixed"] = WEIGHTS.name
    study["space"].pop("enqueue", None)  # the trials have these recipes too
    (to / "study.yaml").write_text(write_yaml(study))
    trials = pd.read_parquet(run / "trials.parquet")
    trials["weights"] = trials["weights"].replace(str(WEIGHTS), WEIGHTS.name)
    trials["checkpoint"] = None
    trials.to_parquet(to / "trials.parquet", index=False)
    shutil.copy(run / "epochs.parquet", to / "epochs.parquet")
