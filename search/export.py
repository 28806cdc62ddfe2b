"""Writes what was chosen from a front: a recipe file with the numbers that its trial reached."""

from pathlib import Path
from typing import Any

from analysis.choose import choose
from analysis.runs import read_run
from search.study import Resources
from spaces.errors import UserError
from spaces.recipe import NUMBERS
from spaces.yaml_files import read_yaml_mapping, write_yaml

_NUMBER_COLUMNS = (
    *("accuracy", "gmacs", "gflops", "effective_gflops", "gbops", "params", "size_mb"),
    *("latency_ms", "epochs_trained", "seconds"),
)


def export_recipe(run: Path, rule: str, out: Path | None = None) -> tuple[Path, str]:
    """Write the recipe that a rule picks from a run; returns its path and why it was picked.

    rule: as in `analysis.choose.choose`. out: RUN/export/trial-N.yaml by default.
    The file is a recipe file: `read_recipe` and `flopwise train` take it as it is.
    Raises UserError where the rule picks nothing or the file can't be written.
    """
    read = read_run(run)
    choice = choose(read, rule)
    provenance = read.study.get("provenance", {})
    resources = Resources(**read.study["resources"])
    numbers = {
        "run": str(read.path.resolve()),
        "trial": choice.trial,
        "picked": rule,
        "why": choice.reason,
        **{name: choice.row.get(name) for name in _NUMBER_COLUMNS},
        "params": int(choice.row["params"]),  # analysis reads every number as a float
        "device": resources.device,
        "threads": resources.cpus,
        "data": read.study["data"]["path"],
        "data_digest": provenance.get("data_digest"),
        "num_classes": provenance.get("num_classes"),
        "versions": provenance.get("versions"),
    }
    path = out or read.path / "export" / f"trial-{choice.trial}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write_yaml({**choice.recipe.to_dict(), NUMBERS: numbers}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None
    return path, choice.reason


def recorded_numbers(path: Path) -> dict[str, Any]:
    """What an exported recipe file says that its trial reached; empty for one written by hand."""
    return read_yaml_mapping(path).get(NUMBERS) or {}
