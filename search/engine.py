"""Runs a study: the one place where Ray Tune, the ledger and the run folder meet."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as RayTrial

from search.cluster.capacity import Capacity, open_capacity
from search.cluster.node_health import NodeHealth
from search.cluster.node_report import tell_search
from search.cluster.ray_session import joins_a_cluster, ray_session
from search.cluster.retries import Retries
from search.cluster.trial_phases import read_phases
from search.decisions.budget import BudgetMeter, Spent
from search.decisions.chance import chance_of
from search.decisions.earlier_trials import describe_earlier, sort_earlier
from search.decisions.ledger import Ledger, open_ledger
from search.decisions.proposals import Proposals
from search.decisions.samplers import SAMPLERS
from search.decisions.stopping_rules import build_stopping_rule
from search.decisions.trial_record import TrialRecord, stored_records
from search.execution.search_stopper import SearchStopper, interruption
from search.execution.tune_actors import deaths_end_trials_only
from search.execution.tune_callback import LedgerCallback
from search.execution.tune_reports import TuneReports, trial_number
from search.execution.tune_scheduler import LedgerScheduler
from search.execution.tune_searcher import LedgerSearcher
from search.planning.latency_meter import cost_meter, foretold_cost
from search.storage import optuna_storage
from search.storage.checkpoints import trial_folder_name
from search.storage.remote_sync import synced_run
from search.storage.run_folder import RunFolder, check_run_folder, is_over, recorded_resources
from search.storage.tensorboard import CurveLogs
from search.storage.warm_start import (
    read_earlier_trials,
    store_earlier_trials,
    stored_earlier_trials,
)
from search.study.preflight import check_study
from search.study.study import AUTO, Study
from spaces.columns import LATENCY
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.costing.effort import Effort
from trainables.costing.training_cost import share_of_training, training_effort
from trainables.data.copying import open_near_data
from trainables.data.dataset import ImageData
from trainables.trial import Trial

# Replace the tables this often while trials run. A finished trial shows up with this delay.
_WRITE_PERIOD_SECONDS = 2.0
_SHOW_PERIOD_SECONDS = 0.25
# Ray Tune wants a limit. The real one is in `search.cluster.capacity`.
_MOST_TRIALS_AT_ONCE = 100_000

Ending = Spent | Literal["exhausted", "interrupted"]
ENDINGS: dict[Ending, str] = {
    "trials": "the trials of the budget are used up",
    "hours": "the hours of the budget are used up",
    "worker_hours": "the worker hours of the budget are used up",
    "plateau": "the front has stopped growing: budget.plateau",
    "failures": "too many trials have failed, and none has trained",
    "exhausted": "the space has no untried recipes left that keep the constraints",
}
"""What ended a search that was not interrupted, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a listener may show while a search runs."""

    study: Study
    ledger: Ledger
    num_workers: int
    seconds: float
    """Wall time of the search, over all of its sessions."""
    stopping: bool
    """Ctrl-C was pressed, and the running trials are being ended."""
    phases: Mapping[int, str] = field(default_factory=dict)
    """What running trials do while they end no epoch, by number: for instance "reading data"."""
    effort: Callable[[Recipe], Effort] = lambda _: Effort(epoch=1.0)
    """The seconds that training a recipe takes, by arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """How a search ended, and where its results are."""

    folder: Path
    ledger: Ledger
    ending: Ending
    seconds: float


def run_search(
    study: Study,
    *,
    resume: bool = False,
    show: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    trainable: type[Trial] = Trial,
) -> SearchResult:
    """Run a study, or resume it, until its budget is used up.

    Uses the Ray that this process is connected to. Without one, joins the cluster of RAY_ADDRESS or
    starts a Ray. Ctrl-C ends the search cleanly, and `resume` continues the trials that ran. show:
    called a few times a second. tell: called with each step before the search begins. announce:
    called then with each line that stays true. trainable: the class that runs a trial. If the study
    can't work, raises UserError before anything starts.
    """
    data = open_near_data(study.data, copy=study.copy_data)
    with synced_run(study, resume=resume) as sync:
        check_run_folder(study, data, resume=resume)
        check_study(study, data)
        earlier = None if resume else read_earlier_trials(study, data)
        if resume:
            study = recorded_resources(study)
        if study.resources == AUTO and joins_a_cluster():
            raise UserError(
                "resources: auto would only probe the cluster's head; write what a trial takes"
            )
        if study.resources == AUTO:
            # This imports SciPy's optimisers. Other searches should not wait for them.
            from search.planning.resource_tuning import decide_resources

            study = decide_resources(study, data, tell=tell)
        over = resume and is_over(study)
        with nullcontext() if over else ray_session(study.trial_resources):
            health = NodeHealth()
            if over:
                capacity = Capacity(study.trial_resources, nodes=list)
            else:
                capacity = open_capacity(
                    study.trial_resources,
                    keep_a_core=LATENCY in study.objectives.cost_columns,
                    is_left_out=lambda node: node in health.left_out,
                )
            folder = (RunFolder.reopen if resume else RunFolder.create)(study, data, sync)
            try:
                try:
                    ledger = _open_ledger(
                        study, folder, data, earlier, resume=resume, announce=announce
                    )
                    if resume:
                        folder.restore_epochs(ledger.unfinished())
                except OSError as error:
                    raise UserError(f"can't write {folder.path}: {error.strerror}") from None
                effort = _training_effort(study, data)
                session = _Session(
                    study, folder, ledger, capacity, health, show, effort, data.digest
                )
                return session.run(None if over else trainable)
            finally:
                folder.close()


class _Session:
    """One session of a search: from a start or a resume to the end or an interruption."""

    def __init__(
        self,
        study: Study,
        folder: RunFolder,
        ledger: Ledger,
        capacity: Capacity,
        health: NodeHealth,
        show: Callable[[Progress], None],
        effort: Callable[[Recipe], Effort],
        data_digest: str,
    ) -> None:
        self._study = study
        self._data_digest = data_digest
        self._folder = folder
        self._ledger = ledger
        self._capacity = capacity
        self._health = health
        self._on_cluster = joins_a_cluster()
        self._show = show
        self._effort = effort
        self._curves = CurveLogs(folder.path)
        self._stopper = SearchStopper()
        self._phases: dict[int, str] = {}
        self._next_write = self._shown = time.monotonic()
        self._meter = BudgetMeter(study.budget, ledger)

    def run(self, trainable: type[Trial] | None) -> SearchResult:
        """Run the trials that are left. trainable: None if there are none, and no Ray."""
        # A killed driver may have left checkpoints that should be gone.
        for record in self._ledger.records.values():
            if record.state.is_finished() or record.paused is not None:
                self._folder.checkpoints.keep(record)
        self._show(self._progress())
        retries = Retries(num_nodes=lambda: len(self._capacity.nodes))
        searcher = LedgerSearcher(
            self._ledger,
            self._meter,
            most=lambda: self._capacity.most,
            config_of=self._config_of,
            stopper=self._stopper,
            retries=retries,
        )
        reports = TuneReports(self._ledger)
        callback = LedgerCallback(
            self._ledger,
            reports,
            self._folder,
            stopper=self._stopper,
            health=self._health,
            retries=retries,
            after_step=lambda: self._after_step(callback),
        )
        try:
            if trainable is not None:
                with interruption(self._stopper), deaths_end_trials_only():
                    self._tuner(trainable, searcher, reports, callback).fit()
            if self._stopper.error is None and not self._stopper.requested:
                ended_by = ENDINGS[self._ending(searcher)]
                self._ledger.give_up_all(f"still paused at the end: {ended_by}")
        finally:
            if self._stopper.error is not None:
                # Ray's own error only follows from this one. Write nothing more.
                raise self._stopper.error from None
            self._remove_given_up()
            self._write()
            self._show(self._progress())
            if self._folder.sync is not None:
                self._folder.sync.bring_all()
        return SearchResult(
            folder=self._folder.path,
            ledger=self._ledger,
            ending=self._ending(searcher),
            seconds=self._ledger.seconds_searched,
        )

    def _tuner(
        self,
        trainable: type[Trial],
        searcher: LedgerSearcher,
        reports: TuneReports,
        callback: LedgerCallback,
    ) -> tune.Tuner:
        # Tune sets a variable for PyTorch Lightning, which we don't use. With an environment of
        # their own, trials would start new processes instead of using those that are ready.
        class_cache.DEFAULT_ENV_VARS.clear()
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=LedgerScheduler(reports, self._stopper),
                num_samples=-1,  # the searcher says when the budget is used up
                max_concurrent_trials=_MOST_TRIALS_AT_ONCE,  # and how many may run now
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=self._folder.checkpoints.new_session(),
                **self._folder.checkpoints.storage,
                stop=self._stopper,
                callbacks=[callback],
                # The trial decides when to save, and the callback removes old checkpoints. With
                # num_to_keep, Ray would rewrite all of its own state after each checkpoint.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def _config_of(self, record: TrialRecord) -> dict[str, Any]:
        """The config for a trial's process. Also notes the trial's CPUs and GPUs in its record."""
        assert record.recipe is not None
        resources = self._study.trial_resources
        record.cpus, record.gpus = resources.cpus, resources.gpus
        return {
            "recipe": record.recipe.to_dict(),
            "data": str(self._study.data),
            "copy_data": self._study.copy_data,
            "data_digest": self._data_digest,
            "device": resources.device,
            "threads": resources.cpus,
            "gpu_share": resources.gpus,
            "recalls": self._study.objectives.recalls,
            "deepest_unfrozen": self._study.space.largest("unfrozen", record.recipe),
            "resume_from": self._folder.checkpoints.of(record.number),
            "pause_after": None if record.pausing is None else len(record.epochs),
            "avoid": self._avoided_by(record.number),
        }

    def _avoided_by(self, number: int) -> list[str]:
        if not self._health.any_died:
            return []
        return sorted(self._health.avoided_by(number, [node.key for node in self._capacity.nodes]))

    def _remove_given_up(self) -> None:
        """Remove the checkpoints of paused trials that will never go on."""
        while self._ledger.given_up:
            self._folder.checkpoints.keep(self._ledger.given_up.pop())

    def _after_step(self, callback: LedgerCallback) -> None:
        self._remove_given_up()
        now = time.monotonic()
        if now > self._next_write:
            self._write()
            self._phases = read_phases(record.number for record in self._ledger.unfinished())
            if self._on_cluster:
                self._tell_cluster(callback)
            ended = time.monotonic()
            # With many trials a write is slow. Spend at most a tenth of the time on writing.
            self._next_write = ended + max(_WRITE_PERIOD_SECONDS, 9 * (ended - now))
        if now - self._shown > _SHOW_PERIOD_SECONDS or self._stopper.requested:
            self._shown = now
            self._show(self._progress())

    def _tell_cluster(self, callback: LedgerCallback) -> None:
        """Publish what `flopwise nodes` shows of this search."""
        running: dict[str, list[int]] = defaultdict(list)
        for record in self._ledger.unfinished():
            if record.number in callback.node_of:
                running[callback.node_of[record.number]].append(record.number)
        tell_search(self._study.name, running, sorted(self._health.left_out))

    def _write(self) -> None:
        self._folder.write_tables(self._ledger.records.values())
        self._curves.write(self._ledger.records.values())
        self._ledger.save_seconds_searched()
        if self._folder.sync is not None:
            self._folder.sync.bring()

    def _progress(self) -> Progress:
        return Progress(
            study=self._study,
            ledger=self._ledger,
            num_workers=max(1, self._capacity.workers),
            seconds=self._ledger.seconds_searched,
            stopping=self._stopper.requested,
            phases=self._phases,
            effort=self._effort,
        )

    def _ending(self, searcher: LedgerSearcher) -> Ending:
        if self._stopper.requested:
            return "interrupted"
        return searcher.ended_by or self._meter.spent() or "trials"


def _open_ledger(
    study: Study,
    folder: RunFolder,
    data: ImageData,
    records: list[TrialRecord] | None,
    *,
    resume: bool,
    announce: Callable[[str], None],
) -> Ledger:
    """records: complete trials of earlier runs; None: they were not read, since it is resumed."""
    if resume:
        optuna_study = optuna_storage.open_study(folder.path, study.name)
        optuna_study = optuna_storage.fit_to_space(optuna_study, folder.path, study.space)
    else:
        optuna_study = optuna_storage.create_study(
            folder.path, study.name, study.objectives.optuna_directions
        )
    stored = stored_earlier_trials(optuna_study)
    if stored is None:  # it begins, or its driver was killed before it stored them
        stored = read_earlier_trials(study, data) if records is None else records
        if study.warm_start:
            store_earlier_trials(optuna_study, stored)
    if folder.widened:
        announce(f"the space became wider: {', '.join(folder.widened)}; the search goes on in it")
    rule = build_stopping_rule(study.early_stopping, study.objectives)
    earlier = sort_earlier(stored, study.space, study.objectives)
    if stored:
        learns = SAMPLERS[study.sampler.name].rates_by_gain or rule.rates_by_gain
        line = describe_earlier(earlier, learns=learns)
        folder.note_warm_start(line)
        announce(f"warm start: {line}")

    measure = cost_meter(
        study.objectives,
        len(data.classes),
        known=lambda: [*stored, *stored_records(optuna_study)],
    )
    proposals = Proposals(
        space=study.space,
        objectives=study.objectives,
        sampler=study.sampler.name,
        seed=study.seed,
        earlier=earlier,
        effort=partial(share_of_training, num_classes=len(data.classes)),
        num_trials=study.budget.trials,
        training_effort=_training_effort(study, data),
        foretell=foretold_cost(measure, len(data.classes)),
    )
    return open_ledger(
        optuna_study,
        proposals,
        rule=rule,
        measure=measure,
        keep_dominated=study.dominated == "keep",
        chance=chance_of(study.objectives.metric, data.class_counts("validation")),
    )


def _training_effort(study: Study, data: ImageData) -> Callable[[Recipe], Effort]:
    return partial(
        training_effort,
        num_classes=len(data.classes),
        num_train=len(data.rows("train")),
        num_validation=len(data.rows("validation")),
        device=study.trial_resources.device,
        threads=study.trial_resources.cpus,
    )


def _trial_name(trial: RayTrial) -> str:
    return trial_folder_name(trial_number(trial))
