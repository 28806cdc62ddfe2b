"""Our own code: its folder, its commit, and the files that a search needs on a cluster."""

import shutil
import subprocess
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("analysis", "search", "spaces", "trainables")
# Holds the commit of the code that was sent to a cluster, where there is no git.
_COMMIT_FILE = "GIT_COMMIT"


def stage_code(folder: Path) -> None:
    """Copy the code that a search needs into an empty folder."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / "pyproject.toml").exists():
        shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / _COMMIT_FILE).write_text(git_commit() or "", encoding="utf-8")


def git_commit() -> str | None:
    """The commit of this code, with -dirty if files differ from it; None if it is unknown.

    On a cluster, it is the commit that the sender's git gave.
    """
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    with suppress(OSError):
        return (ROOT / _COMMIT_FILE).read_text(encoding="utf-8") or None
    try:
        result = subprocess.run(  # noqa: S603
            command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def package_version(package: str) -> str:
    """A package's version. flopwise need not be installed: its pyproject.toml has it too."""
    try:
        return version(package)
    except PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return project["version"]
