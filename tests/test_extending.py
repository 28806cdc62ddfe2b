"""A toy of each part that can be added, from outside, and all of them through one real search."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_family
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from ray import cloudpickle
from searches import write_study
from toy_family import TOY

from analysis.plot_style import new_figure, save_picture
from analysis.plots.figures import FIGURES, Figure
from analysis.results.report_data import ReportData
from analysis.results.status import run_status
from analysis.runs import Run, read_run, run_recipe
from search.decisions.samplers import SAMPLERS, SamplerEntry
from search.decisions.stopping import Decision, Go, Stop, StoppingContext, StoppingRule
from search.decisions.stopping_rules import STOPPING_RULES
from search.decisions.trial_record import TrialRecord
from search.decisions.trial_views import TrialView
from search.engine import run_search
from search.followups.report import make_report
from search.study.study import Study, load_study
from spaces.columns import COSTS, Column
from spaces.errors import UserError
from trainables.cost import MEASURES, CountedModel, recipe_cost
from trainables.data.dataset import ImageData
from trainables.models.families import FAMILIES
from trainables.trial import Trial

# Workers don't have tests/ to import from.
cloudpickle.register_pickle_by_value(toy_family)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SPACE: dict[str, Any] = {
    "model": ["toy_narrow", "toy_wide"],
    "input_size": [32, 64],
    "learning_rate": {"log": [1.0e-3, 1.0e-2]},
    "epochs": 3,
}


class FrontView(TrialView):
    """Shows a sampler the complete trials alone."""

    def shown_as(self, trial: FrozenTrial, trials: Any) -> FrozenTrial | None:
        return trial if trial.state == TrialState.COMPLETE else None

    def trials(self, unfinished: Any, attributes: Any) -> list[FrozenTrial]:
        return self._by_number(self._known)


class OddRule(StoppingRule):
    """Stops every trial with an odd number after its second epoch."""

    def rungs(self, epochs: int) -> list[int]:
        return [2]

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        if len(trial.epochs) >= 2 and trial.number % 2:
            return Stop(reason=f"odd number: {trial.number} is not even")
        return Go()


def layers(counted: CountedModel) -> int:
    """How many layers have multiply-adds."""
    return sum(number > 0 for number in counted.macs_by_layer.values())


def draw_layers(data: ReportData, folder: Path) -> list[Path]:
    figure = new_figure(6, 4)
    figure.add_subplot().hist(data.run.finished["layers"])
    return [save_picture(figure, folder / "layers.png")]


class ToyTrial(Trial):
    """A worker that knows the toy family. In a clone, the line in the table is there by itself."""

    def setup(self, config: dict[str, Any]) -> None:
        from trainables.models import families

        families.FAMILIES["toy"] = toy_family.TOY
        super().setup(config)


@pytest.fixture(scope="module")
def toys() -> Any:
    """Each toy in its table, as a line of it would be."""
    with pytest.MonkeyPatch.context() as patch:
        entry = SamplerEntry(build=lambda to: RandomSampler(seed=to.derived), view=FrontView)
        patch.setitem(SAMPLERS, "toy", entry)
        patch.setitem(STOPPING_RULES, "toy", lambda _settings, _objectives: OddRule())
        column = Column(label="layers", unit="layers", meaning="layers that multiply", whole=True)
        patch.setitem(COSTS, "layers", column)
        patch.setitem(MEASURES, "layers", layers)
        patch.setitem(FAMILIES, "toy", TOY)
        toy = Figure(name="layers", title="How many layers models have", draw_png=draw_layers)
        FIGURES.append(toy)
        yield
        FIGURES.remove(toy)


@pytest.fixture(scope="module")
def study(toys: None, tmp_path_factory: pytest.TempPathFactory, demo_data: ImageData) -> Study:
    path = write_study(
        tmp_path_factory.mktemp("toys"),
        demo_data,
        space=SPACE,
        objectives={"accuracy": "max", "layers": "min"},
        constraints={"layers": "<= 100"},
        sampler={"name": "toy"},
        early_stopping={"name": "toy"},
        budget={"trials": 6},
    )
    return load_study(path)


@pytest.fixture(scope="module")
def run(study: Study, two_workers: None) -> Run:
    return read_run(run_search(study, trainable=ToyTrial).folder)


def test_a_search_of_toys_ends_with_every_trial_told(run: Run):
    assert run.counts() == {"COMPLETE": 3, "PRUNED": 3, "FAIL": 0, "RUNNING": 0, "PAUSED": 0}
    assert set(run.trials["model"]) <= {"toy_narrow", "toy_wide"}
    assert run.study["sampler"]["name"] == "toy"


def test_the_rules_reasons_are_in_the_table_and_in_the_status(run: Run):
    stopped = run.trials.loc[run.trials["state"] == "PRUNED"]
    assert stopped["stop_reason"].tolist() == [
        f"odd number: {number} is not even" for number in (1, 3, 5)
    ]
    assert stopped["epochs_trained"].tolist() == [2, 2, 2]
    assert run_status(run, searched=False)["stopped"] == {"odd number": 3}


def test_the_cost_is_an_objective_a_column_and_in_the_front(run: Run):
    assert run.objectives.costs == ("layers",)
    assert set(run.trials["layers"]) == {3.0}  # two convolutions and the head
    assert pd.api.types.is_float_dtype(run.front()["layers"])
    assert recipe_cost(run_recipe(run.trials.iloc[0]), 3)["layers"] == 3


def test_the_report_has_the_figure_the_cost_and_the_reasons(run: Run):
    made = make_report(run.path)
    page = made.page.read_text()
    assert [picture.name for picture in made.pictures if picture.stem == "layers"] == ["layers.png"]
    assert "How many layers models have" in page
    assert "odd number" in page
    assert '"layers"' in page


def test_names_of_no_table_are_refused_with_the_nearest_of_them(
    toys: None, tmp_path: Path, demo_data: ImageData
):
    path = write_study(
        tmp_path,
        demo_data,
        sampler={"name": "toyy"},
        early_stopping={"name": "tooy"},
        objectives={"accuracy": "max", "layer": "min"},
    )
    with pytest.raises(UserError) as error:
        load_study(path)
    lines = str(error.value).splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "did you mean layers?",
        "did you mean toy?",
        "did you mean toy?",
    ]
