"""A study whose driver can be killed at any moment: tests of the ledger drive it without Ray."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from searches import metrics

from search.decisions.budget import next_trial
from search.decisions.ledger import open_ledger
from search.decisions.proposals import Proposals
from search.decisions.stopping import StoppingRule
from search.decisions.trial_record import TrialRecord
from search.storage.optuna_storage import JOURNAL, create_study, open_study
from spaces.constraints import Constraint
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space_file import parse_space
from trainables.costing.figures import Cost

CONDITIONAL = {
    "model": ["baseline_cnn", "mobilenet_v2"],
    "input_size": {"int": [32, 128], "step": 32},
    "width": {"choices": [0.25, 0.5, 1.0], "when": {"model": "baseline_cnn"}},
    "unfrozen": {"int": [0, 8], "when": {"model": "mobilenet_v2"}},
    "learning_rate": {"log": [1e-4, 1e-1]},
    "weight_decay": {"float": [0.0, 0.1]},
    "epochs": 2,
}
TWO = {"accuracy": "max", "effective_gflops": "min"}


def space_of(content: dict[str, Any]):
    return parse_space(content, name="test", source="test.yaml", folder=Path("/"))


def fraction(recipe: Recipe) -> float:
    """A number from 0 to 1 that follows from the recipe alone."""
    return int(hashlib.sha256(recipe.key.encode()).hexdigest()[:8], 16) / 2**32


def accuracy_of(recipe: Recipe) -> float:
    rate = 1 - abs(math.log10(recipe.learning_rate) + 2.5) / 4
    return 0.6 * rate + 0.3 * recipe.input_size / 128 + 0.1 * fraction(recipe)


def made_up_cost(recipe: Recipe) -> Cost:
    gflops = recipe.width * (recipe.input_size / 128) ** 2 + 0.1 * len(recipe.model)
    return Cost(
        figures={
            "gmacs": gflops / 2,
            "gflops": gflops,
            "effective_gflops": gflops,
            "gbops": 512 * gflops,
            "params": 1000,
            "size_mb": 0.004,
        }
    )


def objectives_of(directions: dict[str, Any], constraints: Sequence[Constraint] = ()) -> Objectives:
    return Objectives(directions=directions, constraints=tuple(constraints))


class Run:
    """A study in a folder, whose driver can be killed at any moment: nothing is closed."""

    def __init__(
        self,
        folder: Path,
        *,
        sampler: str = "random",
        content: dict[str, Any] = CONDITIONAL,
        objectives: dict[str, str] = TWO,
        seed: int = 0,
        constraints: Sequence[Constraint] = (),
        rule: StoppingRule | None = None,
        measure: Callable[[Recipe], Cost] = made_up_cost,
        **settings: Any,
    ) -> None:
        """settings: more of `open_ledger`'s."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.journal = folder / JOURNAL
        self.space = space_of(content)
        self.objectives = objectives_of(objectives, constraints)
        self._proposals = Proposals(
            space=self.space, objectives=self.objectives, sampler=sampler, seed=seed
        )
        self._settings: dict[str, Any] = {
            "measure": measure,
            "rule": rule or StoppingRule(),
            **settings,
        }
        self.study = create_study(folder, "test", self.objectives.optuna_directions)
        self.ledger = open_ledger(self.study, self._proposals, **self._settings)

    def reopen(self) -> None:
        self.study = open_study(self.folder, "test")
        self.ledger = open_ledger(self.study, self._proposals, **self._settings)

    def reopen_with(self, rule: StoppingRule) -> None:
        """Reopen with a stopping rule that remembers nothing."""
        self._settings["rule"] = rule
        self.reopen()

    def ask(self) -> TrialRecord:
        record = self.ask_within(10**6)
        assert record is not None
        return record

    def ask_within(self, budget: int) -> TrialRecord | None:
        """The next trial; budget: of trials, those that never began among them."""
        self.ledger.limit_by(lambda: "trials" if len(self.ledger.records) >= budget else None)
        return next_trial(self.ledger)

    def finish(self, record: TrialRecord, accuracy: float | None = None) -> None:
        """Train a trial, or have it fail where its recipe is of the unlucky fifth."""
        if accuracy is None and fraction(recipe_of(record)) < 0.2:
            record.add_epochs([metrics(1, math.nan)])
            self.ledger.fail(record.number, "loss is NaN in epoch 1")
            return
        value = accuracy_of(recipe_of(record)) if accuracy is None else accuracy
        record.add_epochs(metrics(epoch, value * epoch / 2) for epoch in (1, 2))
        self.ledger.complete(record.number, checkpoint=f"tune/trial-{record.number}")

    def search(self, trials: int, *, workers: int = 2, reopen_every: int | None = None) -> None:
        """Keep `workers` trials running; the eldest finishes first."""
        running: list[TrialRecord] = []
        while True:
            while len(running) < workers:
                record = self.ask_within(trials)
                if record is None:
                    break
                running.append(record)
            if not running:
                return
            self.finish(running.pop(0))
            message = len(self.ledger.records) - len(running)
            if reopen_every and message % reopen_every == 0:
                self.reopen()
                running = [self.ask() for _ in running]

    @property
    def recipes(self) -> list[Recipe]:
        return [recipe_of(record) for record in self.ledger.records.values()]


def recipe_of(record: TrialRecord) -> Recipe:
    assert record.recipe is not None
    return record.recipe


def told_states(journal: Path) -> dict[int, list[int]]:
    """Trial id -> the final states that were written for it."""
    message: dict[int, list[int]] = {}
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        if "trial_id" in entry and entry.get("state") in (1, 2, 3):
            message.setdefault(entry["trial_id"], []).append(entry["state"])
    return message
