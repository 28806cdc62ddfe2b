"""YAML as users mean it: plain data only, 1e-3 is a number, a key written twice is a mistake."""

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with two of YAML 1.1's surprises taken out."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a key is a word", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key} is written twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text, since it asks for a dot and a sign (yaml/pyyaml#173).
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """Read one YAML document; source names it in errors.

    Raises UserError with the line and column of what does not parse.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{source}{where}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: {' '.join(str(error).split())}") from None


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping of words to values.

    Raises UserError where the file is missing, does not parse, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected `name: value` lines, found {_kind(content)}")
    return {str(key): value for key, value in content.items()}


def write_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML, in the order given."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
