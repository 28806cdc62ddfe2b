"""The head of a cluster: how our code and a user's words get there.

Ray's own tools carry both, over the SSH connection that the cluster file describes, as `ray
rsync-up` and `ray exec` would. Nothing of Ray's is opened to the network for it.
"""

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from search.source_code import stage_code
from spaces.errors import UserError
from spaces.yaml_files import read_yaml_mapping

# On the head, in its user's home.
CODE_FOLDER = "~/flopwise-code"


class Head:
    """The head of the cluster of one file; the cluster is up."""

    def __init__(self, cluster: Path) -> None:
        """Raises UserError where the file can't be one of a cluster."""
        if "provider" not in read_yaml_mapping(cluster):
            raise UserError(f"{cluster}: names no provider, so it is no cluster's file")
        self._cluster = cluster

    def send_code(self, files: dict[str, str] | None = None) -> None:
        """Bring this checkout's code to the head, and files beside it: name -> content."""
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

    def run(self, module: str, words: Sequence[str]) -> None:
        """Run one of our modules there; what it prints comes out here.

        Raises UserError where it fails, after it has said why.
        """
        command = f"cd {CODE_FOLDER} && python -m {module} {shlex.join(words)}"
        with self._by_ray() as tools:
            tools.run_on_cluster(str(self._cluster), cmd=command)

    @contextmanager
    def _by_ray(self) -> Iterator:
        import click
        from ray.autoscaler import sdk
        from ray.autoscaler._private.cli_logger import cli_logger

        cli_logger.configure(log_style="pretty", color_mode="auto", verbosity=0)
        try:
            # What Ray says of its own doing is not what was asked for: it goes beside that.
            with contextlib.redirect_stdout(sys.stderr):
                yield sdk
        except click.ClickException:
            raise UserError(
                f"{self._cluster}: that failed on the head; the reason is above"
            ) from None
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self._cluster}: the head can't be reached: {reason}") from None
