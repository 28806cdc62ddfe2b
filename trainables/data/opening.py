"""Opens what a user names as labelled images: a folder, a table, shards, or a torchvision set."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from spaces.errors import UserError
from spaces.files import absolute
from trainables.data.image_sources import Sample, Source, SplitsFrom, folder_source
from trainables.data.image_walk import images_in
from trainables.data.shard_source import has_images, shard_source, shards_in
from trainables.data.table_source import TABLES, columns_of, table_source

TORCHVISION = "torchvision:"
BY_FOLDER = "folder"

_GroupOf = Callable[[Sample], str | None]


def open_source(
    source: str,
    *,
    table: Path | None = None,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    splits: SplitsFrom = "auto",
    group: str | None = None,
) -> Source:
    """Open labelled images without decoding them.

    source: a folder of class folders, or of Parquet shards with images; a table; torchvision:NAME.
    table: labels of the images in the folder `source`. images: the folder that the paths in a table
    start at; None: `source`, or the table's own folder. columns: see `table_source`.
    splits: `auto` takes the splits of the source if it has them, `folders` insists on them,
    `random` ignores them.
    group: what belongs together: `folder` (the folder an image lies in), a column of the table, or
    a regular expression that is searched in each image's path; its first group, or else all that
    it matches. Raises UserError.
    """
    columns = dict(columns or {})
    path = None if source.startswith(TORCHVISION) else absolute(Path(source))
    is_shard = path is not None and _is_parquet(path) and has_images(path)
    if not (table or is_shard or path is None) and path.is_file() and _is_table(path):
        table, path = path, path.parent
    if table is None and (images or columns):
        raise UserError("--images and --column are for a table: name it with --table")
    if table is not None:
        if group is not None and group in columns_of(absolute(table)):
            columns["group"], group = group, None
        folder = absolute(images) if images else path
        if folder is None or not folder.is_dir():
            raise UserError(f"{images or source}: is no folder that the paths in {table} start at")
        found = table_source(absolute(table), folder, columns)
    elif path is None:
        # Importing torchvision takes seconds, and folders don't need it.
        from trainables.data.torchvision_sets import torchvision_source

        found = torchvision_source(source.removeprefix(TORCHVISION))
    elif is_shard:
        found = shard_source(path.parent, [path])
    elif path.is_dir() and not any(images_in(path)) and (shards := shards_in(path)):
        found = shard_source(path, shards)
    else:
        found = folder_source(path, splits=splits)
    if splits == "folders" and not found.splits:
        raise UserError(f"{source}: --splits folders: it names no splits")
    if splits == "random":
        found = replace(
            found, splits=(), samples=_changed(found.samples, lambda _: {"split": None})
        )
    if group is not None:
        group_of = _group_of(group)
        found = replace(
            found,
            samples=_changed(found.samples, lambda sample: {"group": group_of(sample)}),
            grouped=True,
        )
        _check_matches(found, group)
    return found


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _is_parquet(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".parquet", ".pq")


def _changed(
    samples: Callable[[], Iterator[Sample]], change: Callable[[Sample], dict]
) -> Callable[[], Iterator[Sample]]:
    return lambda: (replace(sample, **change(sample)) for sample in samples())


def _group_of(rule: str) -> _GroupOf:
    if rule == BY_FOLDER:
        return lambda sample: str(PurePosixPath(sample.path or sample.location).parent)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UserError(f"--group {rule}: is no regular expression: {error}") from None

    def matched(sample: Sample) -> str | None:
        found = pattern.search(sample.path or sample.location)
        return found[1 if pattern.groups else 0] if found else None

    return matched


def _check_matches(source: Source, rule: str) -> None:
    example = ""
    for sample in source.samples():
        if sample.group is not None:
            return
        example = example or sample.path or sample.location
    raise UserError(
        f"--group {rule}: matches no image, such as {example}; write folder, a column of the table,"
        " or a regular expression for a part of the path"
    )
