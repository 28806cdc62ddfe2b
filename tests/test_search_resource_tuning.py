import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from searches import SPACE, write_study

from search.engine import run_search
from search.planning import resource_tuning
from search.planning.candidates import draw_candidates
from search.planning.dry_run import estimate_study
from search.planning.resource_tuning import decide_resources
from search.study.study import Study, load_study
from spaces.errors import UserError
from spaces.yaml_files import read_yaml_mapping
from trainables.data.dataset import ImageData


def auto_study(folder: Path, data: ImageData, **changes: Any) -> Path:
    return write_study(folder, data, **{"resources": "auto", "budget": {"trials": 2}, **changes})


@pytest.fixture
def short_and_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_tuning, "num_cores", lambda: 2)
    monkeypatch.setattr(resource_tuning, "_MEASURING_SECONDS", 0.4)


def stored(study: Study) -> dict[str, Any]:
    return read_yaml_mapping(study.folder / "study.yaml")


def test_a_search_with_resources_auto_records_its_decision_and_a_resume_keeps_it(
    two_workers: None,
    short_and_on_two_cores: None,
    demo_data: ImageData,
    tmp_path: Path,
):
    path = auto_study(tmp_path, demo_data, budget={"trials": 1})
    said: list[str] = []
    lines: list[str] = []
    result = run_search(
        load_study(path),
        tell=said.append,
        show=lambda progress: lines.append((progress.study.resource_choice or {})["told"]),
    )
    assert result.ending == "trials"
    study = load_study(path)
    begun = stored(study)
    option = begun["provenance"]["packing"]
    chosen = (begun["resources"]["cpus"], begun["resources"]["gpus"])
    assert chosen in [(2, 0.0), (1, 0.0)]
    assert [(each["trials"], each["cpus"]) for each in option["rated"]] == [(1, 2), (2, 1)]
    assert all(rate > 0 for each in option["rated"] for rate in each["images_per_second"])
    assert len(option["recipes"]) == len(option["rated"][0]["images_per_second"]) == 2
    assert set(lines) == {option["told"]}
    assert any("1 trial on 2 cores" in line for line in said)
    assert any("2 trials at once, 1 core each" in line for line in said)

    said.clear()
    run_search(load_study(path, trials=2, resume=True), resume=True, tell=said.append)
    assert said == []
    resumed = stored(study)
    assert resumed["resources"] == begun["resources"]
    assert resumed["provenance"]["packing"] == option
    assert resumed["budget"]["trials"] == 2

    # The study.yaml of a run folder is a study file again, with what was decided.
    shutil.copy(study.folder / "study.yaml", tmp_path / "again.yaml")
    again = load_study(tmp_path / "again.yaml")
    assert again.trial_resources.cpus == chosen[0]
    run_search(load_study(tmp_path / "again.yaml", trials=2), resume=True, tell=said.append)
    assert said == []
    assert stored(study)["provenance"]["packing"] == option


def test_resources_written_at_a_resume_take_the_place_of_those_decided(
    two_workers: None,
    short_and_on_two_cores: None,
    demo_data: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(resource_tuning, "num_cores", lambda: 1)
    said: list[str] = []
    study = load_study(auto_study(tmp_path, demo_data, budget={"trials": 1}))
    run_search(study, tell=said.append)
    # With one core there is nothing to probe.
    assert not any("starting" in line for line in said)
    assert stored(study)["resources"] == {"cpus": 1, "gpus": 0.0}
    assert "nothing else to compare" in stored(study)["provenance"]["packing"]["told"]
    path = auto_study(tmp_path, demo_data, resources={"cpus": 2}, budget={"trials": 1})
    run_search(load_study(path), resume=True)
    assert stored(study)["resources"] == {"cpus": 2, "gpus": 0.0}
    assert stored(study)["provenance"]["packing"] is None


def test_an_option_that_does_not_fit_into_memory_is_not_measured(
    short_and_on_two_cores: None,
    demo_data: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    # Enough for Ray and an idle process; Ray alone is counted with 1.2 GB.
    monkeypatch.setattr(resource_tuning, "machine_bytes", lambda: 10**9)
    study = load_study(auto_study(tmp_path, demo_data))
    decided = decide_resources(study, demo_data)
    assert decided.trial_resources.cpus == 2
    assert decided.resource_choice is not None
    assert len(decided.resource_choice["rated"]) == 1
    assert decided.resource_choice["too_large_for_memory"] == [
        {"trials": 2, "cpus": 1, "gpus": 0.0}
    ]
    assert "memory is too small for 2 at once" in decided.resource_choice["told"]


def test_a_dry_run_says_what_auto_would_choose(
    short_and_on_two_cores: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "input_size": 48, "width": 0.1}
    study = load_study(auto_study(tmp_path, demo_data, space=space))
    estimate = estimate_study(study, probe_seconds=0.3)
    assert estimate.resources is not None
    assert estimate.resources.startswith(("1 trial on 2 cores", "2 trials at once, 1 core each"))
    assert not study.folder.exists()
    written = load_study(write_study(tmp_path, demo_data, space=space, resources={"cpus": 1}))
    assert decide_resources(written, demo_data) is written


def test_a_probe_that_fails_says_how_to_go_on_without_one(
    short_and_on_two_cores: None,
    demo_data: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    study = load_study(auto_study(tmp_path, demo_data))
    candidates = draw_candidates(study, num_classes=3)
    broken = [replace(each, recipe=each.recipe.replace(unfrozen=99)) for each in candidates]
    with pytest.raises(UserError, match=r"auto: a probe failed.*such as \{cpus: 1\} need no probe"):
        decide_resources(study, demo_data, candidates=broken)
