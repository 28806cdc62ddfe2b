"""YAML as users mean it: plain data only, 1e-3 is a number, a repeated key is a mistake.

Where YAML 1.1 reads a plain word otherwise than it looks (on, 1:30, 010), it is refused.
"""

import difflib
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import UserError
from spaces.files import read_file, reason

# Of a user's file, which is a page or two; PyYAML reads about 100 kB a second.
MOST_BYTES = 250_000
# Of a run folder's study.yaml, which lists every enqueued recipe in full.
MOST_BYTES_OF_A_RUN = 50 * 10**6
_DEEPEST = 40
_LONGEST_WORD = 80
_MOST_LINES = 8
# Of a document with aliases, which may repeat each other.
_MOST_VALUES = 100_000
# Plain words that YAML 1.1 reads otherwise than YAML 1.2, and than most people mean them.
_SURPRISES = (
    (
        re.compile(r"(yes|no|on|off)", re.IGNORECASE),
        "YAML 1.1 reads {0} as true or false; write true or false, or '{0}' for the word",
    ),
    (
        re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?"),
        "YAML 1.1 reads {0} in base 60; write one number (1.5 for 1:30), or '{0}' for the word",
    ),
    (
        re.compile(r"[-+]?0[\d_]+"),
        "YAML 1.1 reads {0} in base 8; write the number without the leading 0, or '{0}' for the"
        " word",
    ),
    (
        re.compile(r"[-+]?0b[01_]+|[-+]?0x[\da-fA-F_]+"),
        "write {0} as a decimal number, or '{0}' for the word",
    ),
    (
        re.compile(r"[-+]?(\d+_[\d_]*(\.[\d_]*)?|\d[\d_]*\.[\d_]*_[\d_]*)([eE][-+]?\d+)?"),
        "write {0} without underscores, or '{0}' for the word",
    ),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for plain data, without the surprises of YAML 1.1.

    While it reads, it bounds what a document may become, and names the field of each mistake.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[str] = []
        self._has_aliases = False
        self._num_values: dict[int, int] = {}
        """By the id of a node that is complete."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        step = f"[{index}]" if isinstance(index, int) else ""
        self._path.append(str(index.value) if isinstance(index, yaml.ScalarNode) else step)
        if len(self._path) > _DEEPEST:
            raise self._mistake("nested too deeply", mark)
        node = super().compose_node(parent, index)  # pyright: ignore[reportArgumentType]
        assert node is not None
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node, is_key=is_key)
        if not is_alias:
            self._num_values[id(node)] = self._count(node, mark)
        elif id(node) not in self._num_values:
            raise self._mistake("contains itself", mark)
        self._has_aliases |= is_alias
        self._path.pop()
        return node

    def _count(self, node: yaml.Node, mark: Any) -> int:
        """The values in a node, with those that its aliases repeat."""
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        number = 1 + sum(self._num_values[id(child)] for child in children)
        if self._has_aliases and number > _MOST_VALUES:
            raise self._mistake(f"grows to more than {_MOST_VALUES:,} values by its aliases", mark)
        return number

    def _check_scalar(self, node: yaml.ScalarNode, *, is_key: bool) -> None:
        if _SURROGATE.search(node.value):
            raise self._mistake("holds half of a surrogate pair, no character", node.start_mark)
        if is_key and _CONTROL.search(node.value):
            raise self._mistake(f"a key must be a word, not {shorten(node.value)}", node.start_mark)
        if node.style is None:  # plain, without quotes
            for pattern, message in _SURPRISES:
                if pattern.fullmatch(node.value):
                    raise self._mistake(message.format(cut(node.value)), node.start_mark)

    def _mistake(self, problem: str, mark: Any) -> yaml.MarkedYAMLError:
        steps = [step for step in self._path if step][:3]
        path = ".".join(cut(step, 40) for step in steps).replace(".[", "[")
        named = f"{path}: {problem}" if path else problem
        return yaml.MarkedYAMLError(problem=named, problem_mark=mark)

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
                    problem=f"{cut(str(key))} is written twice", problem_mark=key_node.start_mark
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
# A date is a word. Sets, ordered mappings and bytes are no plain data.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in _Loader.yaml_constructors.items()
    if str(tag).rpartition(":")[2] not in ("timestamp", "binary", "set", "omap", "pairs")
}


def parse_yaml(text: str, source: str) -> Any:
    """Read one YAML document. Errors name source.

    Raises UserError with the line and column of the mistake.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{source}{where}: {cut(str(error.problem), 300)}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source}: {cut(' '.join(str(error).split()), 300)}") from None
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML trips over explicit tags that their values do not fit, such as `!!bool perhaps`.
        raise UserError(f"{source}: a !!tag does not fit its value ({cut(str(error))})") from None


def read_yaml_mapping(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read a YAML file that holds one mapping of words to values.

    Raises UserError where the file is missing, is too large, does not parse, or holds something
    else.
    """
    content = read_file(path, most_bytes=most_bytes)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    parsed = parse_yaml(text, str(path))
    if not isinstance(parsed, Mapping):
        raise UserError(f"{path}: expected `name: value` lines, found {_kind(parsed)}")
    return {str(key): value for key, value in parsed.items()}


def write_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML, in the order given."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shorten(value: object) -> str:
    """Write a user's value as Python does, cut to fit a line."""
    return cut(repr(value))


def cut(text: str, length: int = 80) -> str:
    """Cut a user's text to fit a line."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def path_from(written: str, folder: Path) -> Path:
    """Make a path absolute. folder: of the file that names it.

    Raises UserError where the system refuses the path.
    """
    if not written:
        raise UserError("'' can't be a path: it is empty")
    try:
        path = (folder / Path(written).expanduser()).resolve()
        path.exists()  # raises where the system refuses the name
        str(path).encode()  # files that record it are UTF-8
    except UnicodeEncodeError:
        raise UserError(f"{shorten(written)} can't be a path: its name is not UTF-8") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{shorten(written)} can't be a path: {reason(error)}") from None
    return path


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    if len(word) > _LONGEST_WORD:
        return ""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.65)
    near = near or [name for name in names if len(name) > 3 and word.startswith(name)]
    return f"; did you mean {near[0]}?" if near else ""


def unknown_keys(keys: Sequence[str], known: Collection[str], path: str = "") -> list[str]:
    """The lines for keys that are unknown; one for all of them where there are many.

    known: the keys that may be written there. path: of the mapping, such as `budget`.
    """
    names = [cut(f"{path}.{key}" if path else key) for key in keys]
    if len(keys) > _MOST_LINES:
        listed = ", ".join(cut(name, 40) for name in names[:3])
        return [f"{listed} and {len(keys) - 3:,} more keys: unknown; use {', '.join(known)}"]
    return [
        f"{name}: unknown{did_you_mean(key, known)}" for name, key in zip(names, keys, strict=True)
    ]


def one_of(word: str, known: Iterable[str]) -> str:
    """Return the word if it is known. Raises ValueError that lists the known ones."""
    names = list(known)
    if word in names:
        return word
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    raise ValueError(f"{cut(word)} is not one of {listed}{did_you_mean(word, names)}")


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
