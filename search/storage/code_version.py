"""Our own code: where it lies, of which commit it is, and what of it a search needs elsewhere."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("analysis", "search", "spaces", "trainables")
# Which commit the code is of: there is no git where it arrives.
_COMMIT_FILE = "GIT_COMMIT"


def stage_code(folder: Path) -> None:
    """Put into an empty folder what a search needs to run anywhere."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / "pyproject.toml").exists():
        shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / _COMMIT_FILE).write_text(git_commit() or "", encoding="utf-8")


def git_commit() -> str | None:
    """The commit of this code, with -dirty where files differ from it; None where that is unknown.

    Where it was sent to a cluster, what the sender's git said.
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
