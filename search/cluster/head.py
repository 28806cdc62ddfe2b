"""The head of a cluster: sends our code there and runs commands on it.

Both use Ray's own tools over the SSH connection of the cluster file, as `ray rsync-up` and `ray
exec` do. No port of Ray is opened to the network for it.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from search.storage.code_version import stage_code
from spaces.errors import UserError
from spaces.yaml_files import read_yaml_mapping

# In the home of the head's user.
CODE_FOLDER = "~/flopwise-code"


class Head:
    """The head of a running cluster."""

    def __init__(self, cluster: Path) -> None:
        """cluster: its file. Raises UserError if it is not a cluster file."""
        if "provider" not in read_yaml_mapping(cluster):
            raise UserError(f"{cluster}: names no provider, so it is not a cluster file")
        self._cluster = cluster

    def send_code(self, files: dict[str, str] | None = None) -> None:
        """Copy this checkout's code to the head, and further files: name -> content."""
        with tempfile.TemporaryDirectory(prefix="flopwise-") as folder:
            stage_code(Path(folder))
            for name, content in (files or {}).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
            with self._by_ray() as tools:
                tools.rsync(
                    str(self._cluster), source=f"{folder}/", target=f"{CODE_FOLDER}/", down=False
                )

    def ask(self, module: str, words: Sequence[str]) -> str:
        """Run one of our modules there and return what it printed.

        If it fails, writes its output to stderr and raises UserError.
        """
        with self._by_ray() as tools:
            command = _command(module, words)
            printed = tools.run_on_cluster(str(self._cluster), cmd=command, with_output=True)
        return _text(printed)

    def watch(self, module: str, words: Sequence[str]) -> None:
        """Run one of our modules there, and print its output here while it runs."""
        with self._by_ray(aside=False) as tools:
            tools.run_on_cluster(str(self._cluster), cmd=_command(module, words))

    @contextmanager
    def _by_ray(self, *, aside: bool = True) -> Iterator[Any]:
        """Ray's tools. aside: what they print goes to stderr."""
        import click
        from ray.autoscaler import sdk
        from ray.autoscaler._private.cli_logger import cli_logger

        cli_logger.configure(log_style="pretty", color_mode="auto", verbosity=0)
        try:
            with redirect_stdout(sys.stderr) if aside else nullcontext():
                yield sdk
        except click.ClickException as error:
            cause = error.__context__
            if isinstance(cause, subprocess.CalledProcessError):
                sys.stderr.write(_text(cause.output))
            raise UserError(f"{self._cluster}: failed on the head, see its output above") from None
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self._cluster}: the head can't be reached: {reason}") from None


def _command(module: str, words: Sequence[str]) -> str:
    # SSH gives it a terminal, which knows neither the width of ours nor whether we have one.
    plain = "" if sys.stdout.isatty() else " TERM=dumb NO_COLOR=1"
    width = shutil.get_terminal_size((120, 24)).columns
    environment = f"export COLUMNS={width}{plain}"
    return f"cd {CODE_FOLDER} && {environment} && python -m {module} {shlex.join(words)}"


def _text(printed: bytes | None) -> str:
    """The output of a terminal, with the line ends of files."""
    return (printed or b"").decode(errors="replace").replace("\r\n", "\n")
