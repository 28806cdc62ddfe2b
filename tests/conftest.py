import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from search import cli
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine: more threads than cores make small models many times slower."""
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
    """One Ray for the whole session, of its own, with two CPUs."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()
