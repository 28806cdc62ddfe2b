"""The study file: one search as its user wrote it. Read and validated here."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic.dataclasses import dataclass

from analysis.results.spending import Prices
from analysis.runs import TUNE
from search.decisions.budget import Budget, PlateauSettings
from search.decisions.samplers import SamplerSettings
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.study.remote_folder import RemoteFolder, cached_run
from spaces.addresses import address_below, check_address, holds_a_secret, is_address
from spaces.columns import Direction
from spaces.constraints import check_column, read_study_constraint
from spaces.errors import UserError
from spaces.objectives import DEFAULT_OBJECTIVES, Objectives
from spaces.overrides import narrow
from spaces.recipe import Recipe, describe_mistakes, read_recipe
from spaces.space import SearchSpace
from spaces.space_file import load_space, parse_space
from spaces.yaml_files import (
    MOST_BYTES,
    MOST_BYTES_OF_A_RUN,
    did_you_mean,
    parse_yaml,
    path_from,
    read_yaml_mapping,
    shorten,
)

DEFAULT_TRIALS = 64
AUTO = "auto"
_LONGEST_NAME = 100
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# How mappings look, for whoever wrote a plain value ({}) in their place.
_MAPPINGS = {
    "data": "{path: {}}",
    "objectives": "{accuracy: max, effective_gflops: min}",
    "sampler": "{name: {}}",
    "early_stopping": "{name: {}}",
    "constraints": '{gflops: "<= 0.5"}',
    "budget": "{trials: {}}",
    "budget.plateau": "{percent: 1, trials: 20}",
    "resources": "{cpus: {}, gpus: 0}",
    "prices": "{currency: USD, per_hour: {cpu: 0.05}}",
    "prices.per_hour": "{cpu: 0.05}",
}


def _address_or_path(written: str) -> str:
    if not written:
        raise ValueError("is empty; write a path or an address")
    if is_address(written):
        if holds_a_secret(written):
            raise ValueError(
                "the address holds a key, which every run would record; put keys where this kind"
                " of storage looks for them, such as AWS_SECRET_ACCESS_KEY"
            )
        check_address(written)
    return written


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class DataSettings:
    """Where the prepared data is: a folder, or an address such as s3://bucket/animals."""

    path: Annotated[str, AfterValidator(_address_or_path)]
    copy: bool = False
    """Copy a folder once to each machine. Data at an address is always copied."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Resources:
    """What one trial takes: CPU cores, each with one thread, and GPUs, or a part of one."""

    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0

    @property
    def device(self) -> str:
        """Torch's name of the device that a trial runs on."""
        return "cuda" if self.gpus else "cpu"

    @field_validator("gpus")
    @classmethod
    def _is_a_part_of_one_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is neither a part of one GPU nor a whole number of them")
        return gpus


def _auto_or_no_word(written: Any) -> Any:
    if isinstance(written, str) and written != AUTO:
        raise ValueError(
            f"{shorten(written)} is neither {AUTO} nor a mapping such as {{cpus: 1, gpus: 0}}"
            f"{did_you_mean(written, [AUTO])}"
        )
    return written


def _branch(written: Any) -> str:
    return "[auto]" if isinstance(written, str) else "[mapping]"


# Chosen by hand: pydantic would report each mistake twice, once for each type.
_WrittenResources = Annotated[
    Annotated[Resources, Tag("[mapping]")] | Annotated[Literal["auto"], Tag("[auto]")],
    Discriminator(_branch),
    BeforeValidator(_auto_or_no_word),
]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class _StudyFile:
    """The fields of the file, with paths as written."""

    name: str
    data: DataSettings
    space: str | dict[str, Any]
    objectives: dict[str, Direction] = Field(default_factory=lambda: dict(DEFAULT_OBJECTIVES))
    sampler: SamplerSettings = Field(default_factory=SamplerSettings)
    early_stopping: EarlyStoppingSettings = Field(default_factory=EarlyStoppingSettings)
    budget: Budget = Field(default_factory=lambda: Budget(trials=DEFAULT_TRIALS))
    resources: _WrittenResources = Field(default_factory=Resources)
    prices: Prices | None = None
    storage: Annotated[str, AfterValidator(_address_or_path)] = "runs"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    enqueue: list[str] = Field(default_factory=list)
    constraints: dict[str, str] = Field(default_factory=dict)
    warm_start: list[str] = Field(default_factory=list)
    dominated: Literal["drop", "keep"] = "drop"
    provenance: dict[str, Any] | None = None
    """Only in the study.yaml of a run folder, which is a study file too."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(
                f"{shorten(name)} must be a folder's name on every system: use a-z, A-Z, 0-9, dots,"
                " - and _, and begin with a letter or digit"
            )
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"{shorten(name)} is too long; use {_LONGEST_NAME} characters at most")
        return name

    @field_validator("space", mode="before")
    @classmethod
    def _names_or_holds_a_space(cls, space: Any) -> Any:
        if isinstance(space, str | dict):
            return space
        raise ValueError(f"{shorten(space)} should be a name, a space file's path, or its lines")

    @field_validator("warm_start")
    @classmethod
    def _hold_no_secrets(cls, runs: list[str]) -> list[str]:
        return [_address_or_path(run) for run in runs]

    @field_validator("objectives")
    @classmethod
    def _columns_exist(cls, objectives: dict[str, Direction]) -> dict[str, Direction]:
        if not objectives:
            raise ValueError("name at least one, such as {accuracy: max, gflops: min}")
        for name in objectives:
            check_column(name)
        return objectives

    @field_validator("constraints")
    @classmethod
    def _are_bounds(cls, constraints: dict[str, str]) -> dict[str, str]:
        for column, bound in constraints.items():
            read_study_constraint(column, bound)
        return constraints


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(arbitrary_types_allowed=True))
class Study:
    """One search with its settings resolved: paths are absolute, the space is read."""

    name: str
    data: Path | str
    """A folder, or an address as a str."""
    copy_data: bool
    space: SearchSpace
    objectives: Objectives
    """Includes the bounds, from the file's `constraints`."""
    sampler: SamplerSettings
    early_stopping: EarlyStoppingSettings
    budget: Budget
    resources: Resources | Literal["auto"]
    """The word auto until `search.planning.resource_tuning.decide_resources` decides."""
    prices: Prices | None
    storage: Path | str
    """A folder, or an address as a str."""
    seed: int
    warm_start: tuple[Path | str, ...]
    """Run folders of earlier searches, or their addresses."""
    dominated: Literal["drop", "keep"]
    """drop: trials that can't reach the front never begin, and dominated trials lose their
    checkpoints. keep: every trial runs, and every complete one keeps its checkpoint."""
    overrides: dict[str, Any]
    """What the command line set instead of the file. A resume sets it again."""
    resource_choice: Mapping[str, Any] | None = None
    """How auto chose the resources, as plain data: a line of text, and the measurements."""

    @property
    def folder(self) -> Path:
        """The run folder that the driver writes: in this machine's cache for an address."""
        if isinstance(self.storage, Path):
            return self.storage / self.name
        return cached_run("runs", address_below(self.storage, self.name))

    @property
    def address(self) -> str | None:
        """Where its run folder is copied to; None if its storage is a folder."""
        return None if isinstance(self.storage, Path) else address_below(self.storage, self.name)

    @property
    def location(self) -> Path | str:
        """The run as commands name it: its address, or its folder."""
        return self.address or self.folder

    @property
    def trial_resources(self) -> Resources:
        """What a trial takes. Must be decided already."""
        assert isinstance(self.resources, Resources), "resources: auto, and not decided"
        return self.resources

    def resolved(self) -> dict[str, Any]:
        """The study as plain data: what study.yaml in the run folder begins with."""
        return {
            "name": self.name,
            "data": {"path": str(self.data), **({"copy": True} if self.copy_data else {})},
            "space": self.space.to_dict(),
            "objectives": dict(self.objectives),
            "sampler": asdict(self.sampler),
            "early_stopping": asdict(self.early_stopping),
            "budget": asdict(self.budget),
            "resources": AUTO if self.resources == AUTO else asdict(self.trial_resources),
            **({"prices": asdict(self.prices)} if self.prices else {}),
            "storage": str(self.storage),
            "seed": self.seed,
            "constraints": {
                constraint.column: f"{constraint.sign} {constraint.bound!r}"
                for constraint in self.objectives.constraints
            },
            "warm_start": [str(path) for path in self.warm_start],
            "dominated": self.dominated,
        }


def load_study(
    path: Path,
    *,
    fixes: Mapping[str, Any] | None = None,
    trials: int | None = None,
    hours: float | None = None,
    seed: int | None = None,
    resume: bool = False,
) -> Study:
    """Read a study file; the keyword arguments override what it says.

    fixes: recipe field -> dimension, as in a space file; see `spaces.overrides.narrow`.
    resume: where nothing is overridden now, the search's earlier overrides hold.
    Paths are relative to the file. Raises UserError with a line for each mistake.
    """
    given = {"fixes": dict(fixes or {}), "trials": trials, "hours": hours, "seed": seed}
    given = {name: value for name, value in given.items() if value not in (None, {})}
    study = _load(path, given)
    if resume:
        before = _overrides_before(study)
        if any(name not in given for name in before):
            study = _load(path, {**before, **given})
    return study


def _overrides_before(study: Study) -> dict[str, Any]:
    """The overrides of the latest session of the search in a study's run folder."""
    path = study.folder / "study.yaml"
    if study.address is not None:
        written = RemoteFolder(study.address).read(path.name)
        stored = parse_yaml(written.decode(), f"{study.address}: {path.name}") if written else {}
    else:
        most_bytes = MOST_BYTES_OF_A_RUN
        stored = read_yaml_mapping(path, most_bytes=most_bytes) if path.exists() else {}
    provenance = stored.get("provenance") if isinstance(stored, Mapping) else None
    overrides = provenance.get("overrides") if isinstance(provenance, Mapping) else None
    return dict(overrides) if isinstance(overrides, Mapping) else {}


def _load(path: Path, overrides: dict[str, Any]) -> Study:
    # The study file of a run folder lists each enqueued recipe in full.
    of_a_run = (path.parent / TUNE).is_dir()
    most_bytes = MOST_BYTES_OF_A_RUN if of_a_run else MOST_BYTES
    content = read_yaml_mapping(path, most_bytes=most_bytes)
    budget = {name: overrides[name] for name in ("trials", "hours") if name in overrides}
    written = content.get("budget", {"trials": DEFAULT_TRIALS})
    if budget and isinstance(written, Mapping):
        content["budget"] = {**written, **budget}
    if "seed" in overrides:
        content["seed"] = overrides["seed"]
    try:
        # Through JSON: only there do strict types let a mapping become a dataclass.
        written = json.dumps(content, default=str)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: use words, numbers, lists and mappings only: {error}") from None
    try:
        file = TypeAdapter(_StudyFile).validate_json(written)
    except ValidationError as error:
        lines = describe_mistakes(error, _KNOWN_KEYS, _MAPPINGS)
        raise UserError("\n".join(f"{path}: {line}" for line in lines)) from None
    return _resolve(file, path, overrides)


def _resolve(file: _StudyFile, path: Path, overrides: dict[str, Any]) -> Study:
    folder = path.parent.resolve()
    if isinstance(file.space, str):
        space = load_space(file.space, folder, seed=file.seed)
    else:
        source = f"{path}: space"
        space = parse_space(
            file.space, name=file.name, source=source, folder=folder, seed=file.seed
        )
    enqueue = (*_read_enqueued(file.enqueue, folder, file.seed), *space.enqueue)
    space = replace(space, enqueue=tuple(dict.fromkeys(enqueue)))
    if "fixes" in overrides:
        space = narrow(space, overrides["fixes"])
    return Study(
        name=file.name,
        data=file.data.path if is_address(file.data.path) else path_from(file.data.path, folder),
        copy_data=file.data.copy,
        space=space,
        objectives=Objectives(
            directions=dict(file.objectives),
            constraints=tuple(read_study_constraint(*item) for item in file.constraints.items()),
        ),
        sampler=file.sampler,
        early_stopping=file.early_stopping,
        budget=file.budget,
        resources=file.resources,
        prices=file.prices,
        storage=file.storage if is_address(file.storage) else path_from(file.storage, folder),
        seed=file.seed,
        warm_start=tuple(
            run if is_address(run) else path_from(run, folder) for run in file.warm_start
        ),
        dominated=file.dominated,
        overrides=overrides,
    )


def _read_enqueued(listed: list[str], folder: Path, seed: int) -> list[Recipe]:
    """Read the recipes of shipped spaces and space files, and the one of each recipe file."""
    recipes: list[Recipe] = []
    for entry in listed:
        path = path_from(entry, folder)
        if path.suffix in (".yaml", ".yml") and "enqueue" not in read_yaml_mapping(path):
            recipes.append(read_recipe(path, seed=seed))
            continue
        space = load_space(entry, folder, seed=seed)
        if not space.enqueue:
            raise UserError(f"enqueue: {entry} lists no recipes under `enqueue`")
        recipes += space.enqueue
    return recipes


# The keys that each mapping of a study file takes, by its path.
_KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    path: tuple(name for name in part.__dataclass_fields__ if name != "provenance")
    for path, part in {
        "": _StudyFile,
        "data": DataSettings,
        "sampler": SamplerSettings,
        "early_stopping": EarlyStoppingSettings,
        "budget": Budget,
        "budget.plateau": PlateauSettings,
        "resources": Resources,
        "prices": Prices,
    }.items()
}
