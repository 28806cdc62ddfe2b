"""YAML as users mean it: plain data only, 1e-3 is a number, a repeated key is a mistake."""

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without two surprises of YAML 1.1."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # not for !!map [1]
        for key_node, _ in pairs:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a word", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key} is written twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what _Loader reads back. So text such as 1e5, as in some hashes, gets quotes."""


# YAML 1.1 reads 1e-3 as text, since it asks for a dot and a sign (yaml/pyyaml#173).
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, source: str) -> Any:
    """Read one YAML document. Errors name source.

    Raises UserError with the line and column of the mistake.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{source}{where}: {error.problem}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: {' '.join(str(error).split())}") from None
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML trips over explicit tags that their values do not fit, such as `!!bool perhaps`.
        raise UserError(f"{source}: a !!tag does not fit its value ({error})") from None


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping of words to values.

    Raises UserError where the file is missing, does not parse, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: expected `name: value` lines, found {_kind(content)}")
    return {str(key): value for key, value in content.items()}


def write_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML, in the order given."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shorten(value: object) -> str:
    """Write a user's value as Python does, cut to fit a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def path_from(written: str, folder: Path) -> Path:
    """Make a path absolute. folder: of the file that names it.

    Raises UserError where the system refuses the path.
    """
    try:
        path = (folder / Path(written).expanduser()).resolve()
        path.exists()  # raises where the system refuses the name
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{shorten(written)} can't be a path: {reason}") from None
    return path


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """Return the word if it is known. Raises ValueError that lists the known ones."""
    names = list(known)
    if word in names:
        return word
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    raise ValueError(f"{word} is not one of {listed}{did_you_mean(word, names)}")


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
