import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from search import cli
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo

if TYPE_CHECKING:
    from searches import FinishedSearch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all that needs a Ray to one process of `make test`, and the rest, by files, to both.

    pytest-xdist's loadgroup would say it item by item, but does nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = nodeid.split("::")[0]
            return "ray" if needs_ray(config.rootpath / name) else name

    return ByFile(config, log)


@cache
def needs_ray(file: Path) -> bool:
    """By the words of a file of tests: who schedules them has collected none."""
    return bool(re.search(r"\b(two_workers|finished_search|own_ray)\b", file.read_text()))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine: more threads than cores make small models many times slower."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread_again(one_thread: None) -> Iterator[None]:
    """Commands that run in the tests' process leave it the threads of the run that they were on."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FLOPWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def flopwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flopwise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """Three classes of synthetic images, 64 px."""
    return make_demo(tmp_path_factory.mktemp("demo") / "data", classes=3, size=64)


@pytest.fixture(scope="session")
def two_workers(cache_of_its_own: None) -> Iterator[None]:
    """One Ray for the whole session, begun as a search begins its own, with two CPUs."""
    # Ray and torch take seconds to import, and most files of tests need neither.
    from search.cluster.ray_session import ray_session
    from search.study.study import Resources

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')
            stack.enter_context(ray_session(Resources()))
        yield


@pytest.fixture(scope="session")
def finished_search(
    two_workers: None, demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> "FinishedSearch":
    """A search of six trials, of which the first one was enqueued."""
    from searches import FinishedSearch, write_study

    from search.engine import run_search
    from search.study.study import load_study

    shown: list[int] = []
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mine.yaml").write_text("{input_size: 52, width: 0.2, epochs: 1}")
    path = write_study(folder, demo_data, enqueue=["mine.yaml"], budget={"trials": 6})
    result = run_search(
        load_study(path), show=lambda progress: shown.append(len(progress.ledger.records))
    )
    return FinishedSearch(result=result, shown=tuple(shown))
