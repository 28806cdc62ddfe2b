"""Prepares a study for a cluster: checks its paths, and writes out its space and recipes."""

from pathlib import Path
from typing import Any

from search.study.study import AUTO, Study, load_study
from spaces.addresses import is_address
from spaces.errors import UserError
from spaces.yaml_files import read_yaml_mapping, write_yaml


def portable_study(path: Path) -> str:
    """A study file that means the same on another machine: its space and recipes written out.

    Raises UserError if it names something that only this machine has.
    """
    study = load_study(path)
    written = read_yaml_mapping(path)
    problems = [
        f"{path}: {name}: {value}: on a cluster, write a path from / that every node has, or"
        " an address"
        for name, value in _paths(written)
        if not _is_everywhere(value)
    ]
    if study.resources == AUTO:
        problems.append(
            f"{path}: resources: auto would only probe the cluster's head; write what a trial takes"
        )
    if problems:
        raise UserError("\n".join(problems))
    return write_yaml(_as_written(study, written))


def _paths(written: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("data.path", written["data"]["path"]),
        ("storage", written.get("storage", "runs")),
        *(("warm_start", run) for run in written.get("warm_start", [])),
    ]


def _is_everywhere(value: str) -> bool:
    return is_address(value) or value.startswith("/")


def _as_written(study: Study, written: dict[str, Any]) -> dict[str, Any]:
    """Keep paths as they were written: on this machine, links may change them."""
    return {
        **study.resolved(),
        "data": written["data"],
        "storage": written["storage"],
        "warm_start": written.get("warm_start", []),
    }
