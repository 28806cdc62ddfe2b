import resource
import signal
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from searches import metrics
from tensorboardX.proto import event_pb2

from search.decisions.trial_record import TrialRecord
from search.storage.tensorboard import CurveLogs
from spaces.errors import UserError
from spaces.recipe import Recipe


def record_of(number: int, state: TrialState, num_epochs: int = 3) -> TrialRecord:
    record = TrialRecord(number=number, recipe=Recipe(), state=state)
    record.add_epochs(metrics(epoch, 0.1 * epoch) for epoch in range(1, num_epochs + 1))
    return record


def read_events(folder: Path) -> list[Any]:
    """As https://www.tensorflow.org/tutorials/load_data/tfrecord lays records out."""
    (file,) = folder.iterdir()
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event()  # pyright: ignore[reportAttributeAccessIssue]
        event.ParseFromString(content[12 : 12 + length])
        events.append(event)
        content = content[16 + length :]
    return events


def test_every_trial_that_is_over_has_its_curves(tmp_path: Path):
    records = [
        record_of(0, TrialState.COMPLETE),
        record_of(1, TrialState.PRUNED, num_epochs=1),
        record_of(2, TrialState.RUNNING),
        record_of(3, TrialState.PRUNED, num_epochs=0),
    ]
    CurveLogs(tmp_path).write(records)
    folders = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert folders == ["trial-00000", "trial-00001"]
    scalars = [
        (value.tag, event.step, value.simple_value)
        for event in read_events(tmp_path / "tensorboard" / "trial-00000")
        for value in event.summary.value
        if value.HasField("simple_value")
    ]
    accuracies = [(step, value) for tag, step, value in scalars if tag == "accuracy/validation"]
    assert accuracies == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, pytest.approx(0.3))]
    assert len({tag for tag, *_ in scalars}) == 5


def test_another_session_writes_what_is_missing_and_nothing_twice(tmp_path: Path):
    first, second = record_of(0, TrialState.COMPLETE), record_of(1, TrialState.COMPLETE)
    logs = CurveLogs(tmp_path)
    logs.write([first])
    logs.write([first])
    (tmp_path / "tensorboard" / ".trial-00001").mkdir()  # of a driver that was killed
    before = asdict(first)
    CurveLogs(tmp_path).write([first, second])
    assert asdict(first) == before
    for name in ("trial-00000", "trial-00001"):
        assert len(list((tmp_path / "tensorboard" / name).iterdir())) == 1
    assert not (tmp_path / "tensorboard" / ".trial-00001").exists()


def test_a_full_disk_is_told_in_a_line_and_leaves_no_half_of_a_trial(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
        with pytest.raises(UserError, match=r"^can't write .*trial-00000: File too large$"):
            CurveLogs(tmp_path).write([record_of(0, TrialState.COMPLETE, num_epochs=30)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "tensorboard" / "trial-00000").exists()
    assert capfd.readouterr() == ("", "")
    CurveLogs(tmp_path).write([record_of(0, TrialState.COMPLETE)])
    assert read_events(tmp_path / "tensorboard" / "trial-00000")
