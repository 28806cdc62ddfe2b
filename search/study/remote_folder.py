"""A folder at an address: reads, writes, lists and removes its files."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from spaces.addresses import address_below
from spaces.errors import UserError
from trainables.system.addresses import NOT_REACHED, message, where_it_lies
from trainables.system.shared_cache import cache_folder

# A small file takes the time of one request, whatever its size. So fetch many at once.
_FETCHED_AT_ONCE = 16
# If a file is replaced while it is read, read it again, this often at most.
_READINGS = 5


class RemoteFolder:
    """Names are paths below the folder. Every failure is a UserError of one line."""

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self.files, self.path = where_it_lies(address)
        except UserError:
            raise
        except NOT_REACHED as error:
            raise self._failed("open", "", error) from None

    def read(self, name: str) -> bytes | None:
        """The whole content of a file; None if there is no such file."""
        path, content = f"{self.path}/{name}", b""
        try:
            for _ in range(_READINGS):
                before = self.files.get_file_info(path)
                with self.files.open_input_file(path) as file:
                    content = file.read()
                after = self.files.get_file_info(path)
                if (before.size, before.mtime_ns) == (after.size, after.mtime_ns):
                    break  # otherwise it was replaced, and this may mix old and new
        except FileNotFoundError:
            return None
        except NOT_REACHED as error:
            raise self._failed("read", name, error) from None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file. An object store replaces the old one in one step."""
        path = f"{self.path}/{name}"
        try:
            try:
                file = self.files.open_output_stream(path)
            except FileNotFoundError:  # its folder is missing
                self.files.create_dir(str(PurePosixPath(path).parent), recursive=True)
                file = self.files.open_output_stream(path)
            with file:
                file.write(content)
        except NOT_REACHED as error:
            raise self._failed("write", name, error) from None

    def list(self, below: str = "") -> dict[str, pafs.FileInfo]:
        """Every file below the folder, or below a folder in it, by its name."""
        root = f"{self.path}/{below}".rstrip("/")
        try:
            found = self.files.get_file_info(
                pafs.FileSelector(root, recursive=True, allow_not_found=True)
            )
        except NOT_REACHED as error:
            raise self._failed("read", below, error) from None
        names = {info.path.removeprefix(f"{self.path}/"): info for info in found if info.is_file}
        # An object may have any name. Leave out those that lead out of the folder.
        return {name: info for name, info in names.items() if ".." not in PurePosixPath(name).parts}

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copy files into a local folder, each of them whole or not at all."""

        def fetch(name: str) -> None:
            content = self.read(name)
            if content is None:  # removed since it was listed
                return
            path = folder / name
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(content)
                partial.replace(path)
            except OSError as error:
                raise UserError(f"can't write {path}: {error.strerror}") from None

        with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
            list(pool.map(fetch, names))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with its content. It may be gone already."""
        path = f"{self.path}/{name}"
        try:
            if self.files.get_file_info(path).is_file:
                self.files.delete_file(path)
            else:
                self.files.delete_dir(path)
        except FileNotFoundError:
            pass
        except NOT_REACHED as error:
            raise self._failed("remove", name, error) from None

    def _failed(self, what: str, name: str, error: Exception) -> UserError:
        where = address_below(self.address, name) if name else self.address
        return UserError(f"can't {what} {where}: {message(error)}")


def cached_run(kind: str, address: str) -> Path:
    """The folder in this machine's cache for a run at an address."""
    address = address_below(address)  # with or without a slash at its end
    name = address.partition("?")[0].rsplit("/", 1)[-1]
    return cache_folder() / kind / hashlib.sha256(address.encode()).hexdigest()[:16] / name
