"""Searches as jobs of a running Ray: the driver runs on the head, and nobody has to watch it.

On the head, `python -m search.cluster.jobs studies/animals.yaml --resume` begins one.
"""

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spaces.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_DASHBOARD = "http://127.0.0.1:8265"
_STUDY = "flopwise_study"


def begin_job(study: Path, words: Sequence[str], code: Path) -> str:
    """Begin a search as a job; returns the job's name.

    study: its path in the folder `code`, which Ray copies to every node. words: further options of
    `flopwise search`.
    """
    name = f"{study.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _client().submit_job(
        entrypoint=shlex.join(["python", "-m", "search.cli", "search", str(study), *words]),
        submission_id=name,
        runtime_env={"working_dir": str(code), "env_vars": {"PYTHONUNBUFFERED": "1"}},
        metadata={_STUDY: study.stem},
    )


def find_job(study: str | None) -> "JobDetails":
    """The newest job, or the newest one of a study. Raises UserError if there is none."""
    jobs = [job for job in _client().list_jobs() if _STUDY in (job.metadata or {})]
    of_study = [job for job in jobs if study in (None, (job.metadata or {})[_STUDY])]
    if not of_study:
        known = sorted({(job.metadata or {})[_STUDY] for job in jobs})
        raise UserError(
            f"no search of {study} was begun on this cluster, only of {', '.join(known)}"
            if known
            else "no search was begun on this cluster"
        )
    return max(of_study, key=lambda job: job.start_time or 0)


def follow_job(name: str, write: Callable[[str], object]) -> str:
    """Pass on a job's output until it ends; returns its status, in Ray's word."""
    client = _client()

    async def follow() -> None:
        async for lines in client.tail_job_logs(name):
            write(lines)

    asyncio.run(follow())
    return str(client.get_job_status(name))


def _client() -> "JobSubmissionClient":
    try:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(os.environ.get("RAY_API_SERVER_ADDRESS", _DASHBOARD))
    except ImportError:
        raise UserError("this needs Ray's dashboard: pip install '.[cluster]'") from None
    except (ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"no Ray here accepts jobs: {reason}") from None


def main() -> None:
    """Begin the search that the command line names, with the code of this folder."""
    study, *words = sys.argv[1:]
    try:
        print(begin_job(Path(study), words, Path.cwd()))
    except UserError as error:
        sys.exit(f"flopwise: {error}")


if __name__ == "__main__":
    main()
