"""Finds unknown models in a study file that has other mistakes too, to tell all at once."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spaces.errors import UserError
from spaces.recipe import BASELINE
from spaces.yaml_files import path_from, read_yaml_mapping


def unknown_models(file: Path) -> list[str]:
    """A line for each unknown model that a study file with other mistakes names.

    Reading a study does not know the models, since that would wait for torch.
    """
    lines = []
    with suppress(UserError):
        content = read_yaml_mapping(file)
        space = content.get("space")
        if isinstance(space, str):
            path = path_from(space, file.parent)
            space = read_yaml_mapping(path) if path.is_file() else None
        written = _words(space.get("model") if isinstance(space, Mapping) else None)
        names = [name for name in written if name != BASELINE]
        for name in names:
            from trainables.models.families import family_of  # which waits for torch

            try:
                family_of(name)
            except UserError as error:
                lines.append(f"{file}: space: {error}")
    return list(dict.fromkeys(lines))


def _words(written: Any) -> list[str]:
    """The words of a dimension, however it is written."""
    if isinstance(written, Mapping):
        return [word for key in ("fixed", "choices") for word in _words(written.get(key))]
    if isinstance(written, list):
        return [word for word in written if isinstance(word, str)]
    return [written] if isinstance(written, str) else []
