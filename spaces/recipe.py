"""A recipe: everything that decides how one model is built and trained."""

import dataclasses
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from spaces.errors import UserError
from spaces.yaml_files import (
    cut,
    did_you_mean,
    path_from,
    read_yaml_mapping,
    shorten,
    unknown_keys,
)

BASELINE = "baseline_cnn"
# Field -> the models that have this option. Whatever else a model does not take (a size, weights),
# its family refuses before a search begins.
MODELS_WITH: dict[str, tuple[str, ...]] = {
    "batch_norm": (BASELINE,),
    "residual": (BASELINE,),
    "width": (BASELINE, "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
}
MODELS_WITHOUT_IMAGENET_WEIGHTS = (BASELINE,)
SchedulerName = Literal["constant", "step", "plateau", "cosine", "onecycle"]
# The key of an exported recipe's results. Reading a recipe ignores it.
NUMBERS = "numbers"


# strict refuses `batch_size: true`, and still takes a whole number for a learning rate.
@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Recipe:
    """A fully decided configuration of one trial.

    Fields hold plain Python values, so that a recipe is one row of a table and one flat YAML file.
    Build one from a user's values with `recipe_from`, whose errors are written for users.
    """

    model: Annotated[str, Field(min_length=1)] = BASELINE
    """A model's name; `flopwise models list` shows all."""
    weights: Annotated[str, Field(min_length=1)] = "none"
    """none (random), imagenet (the published weights), or the path of a state dict."""
    input_size: Annotated[int, Field(ge=8, le=2048)] = 112
    """Height and width of the model's input, in pixels."""
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    """Multiplier of the channels. Only the models in MODELS_WITH take another value than 1."""
    batch_norm: bool = False
    """Batch norm after each convolution of the baseline CNN. Other models bring their own."""
    residual: bool = False
    """Residual connections in the baseline CNN."""
    unfrozen: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Train the last `unfrozen` blocks and the head. None trains everything."""
    augment: Literal["none", "light", "trivialaugment"] = "none"
    qat: bool = False
    """Quantisation-aware training: the last epochs train an int8 model, whose accuracy counts."""
    float_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """With qat: how many of `epochs` train in float first. None: two thirds, but not all."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weighting: Literal["none", "balanced"] = "none"
    """balanced: every class weighs the same in the loss."""
    oversampling: bool = False
    """Draw every class as often in an epoch, with replacement, among as many images as before."""
    scheduler: SchedulerName = "constant"
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> Self:
        mistakes = []
        if self.weights == "imagenet" and self.model in MODELS_WITHOUT_IMAGENET_WEIGHTS:
            mistakes.append(f"weights: there are no imagenet weights for {self.model}; use none")
        for name in ("batch_norm", "residual"):
            models = MODELS_WITH[name]
            if getattr(self, name) and self.model not in models:
                when = models[0] if len(models) == 1 else f"[{', '.join(models)}]"
                mistakes.append(
                    f"{name}: only {' and '.join(models)} has this option, {self.model} has not;"
                    f" add `when: {{model: {when}}}` or leave it out"
                )
        if self.width != 1 and self.model not in MODELS_WITH["width"]:
            mistakes.append(
                f"width: {self.model} comes in one width; use 1.0"
                f" ({', '.join(MODELS_WITH['width'])} take other values)"
            )
        if self.float_epochs is not None:
            if not self.qat:
                mistakes.append(
                    "float_epochs: only with qat: true; add `when: {qat: true}` or leave it out"
                )
            elif self.float_epochs >= self.epochs:
                mistakes.append(
                    f"float_epochs: {self.float_epochs} of {self.epochs} epochs in float leave none"
                    " for qat; use fewer"
                )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @property
    def num_float_epochs(self) -> int:
        """How many epochs train in float; with qat, the others are quantisation-aware."""
        if not self.qat:
            return self.epochs
        if self.float_epochs is not None:
            return self.float_epochs
        return self.epochs - max(1, round(self.epochs / 3))

    @property
    def key(self) -> str:
        """16 hexadecimal digits. Equal recipes have equal keys, on every machine and Python."""
        values = self.to_dict()
        # Added later: recipes without them keep their old keys.
        if self.float_epochs is None:
            del values["float_epochs"]
        if not self.oversampling:
            del values["oversampling"]
        return digest_of(values)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain data, in the order of the class."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "Recipe":
        """Copy with changes. Raises UserError where the result is not a valid recipe."""
        return recipe_from({**self.to_dict(), **changes})


RECIPE_FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Recipe))


def digest_of(values: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of plain data, whatever its order."""
    canonical = json.dumps(dict(values), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """Build a recipe from plain data. Missing fields take their defaults.

    Raises UserError with a line for each mistake.
    """
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise UserError("\n".join(describe_mistakes(error, RECIPE_FIELDS))) from None


def read_recipe(path: Path, *, seed: int | None = None) -> Recipe:
    """Read a recipe file. A relative path of weights starts at the file's folder.

    seed: used where the file names none.
    Raises UserError with the file's name and a line for each mistake.
    """
    values = read_yaml_mapping(path)
    values.pop(NUMBERS, None)
    if seed is not None:
        values = {"seed": seed, **values}
    if isinstance(values.get("weights"), str):
        values["weights"] = resolve_weights(values["weights"], path.parent)
    try:
        return recipe_from(values)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def resolve_weights(weights: str, folder: Path) -> str:
    """Make the path of a weights file absolute. folder: of the file that names it."""
    if weights in ("", "none", "imagenet"):
        return weights
    return str(path_from(weights, folder))


def describe_mistakes(
    error: ValidationError,
    known: Collection[str] | Mapping[str, Collection[str]] = (),
    mappings: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """A line for each mistake: the path of the value, what is wrong, and what to write instead.

    known: the keys that may be written; for nested mappings, by the path of each. mappings: path ->
    how a mapping there may look; `{}` stands for the plain value that was written in its place.
    """
    by_path = known if isinstance(known, Mapping) else {"": known}
    lines: list[str] = []
    unknown: dict[str, list[str]] = defaultdict(list)
    for mistake in error.errors(include_url=False):
        # pydantic adds the branch of a union to the path; users never wrote it.
        steps = [str(part) for part in mistake["loc"] if not _is_union_branch(part)]
        where = cut(".".join(steps))
        if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            above = [str(part) for part in mistake["loc"][:-1] if not _is_union_branch(part)]
            unknown[".".join(above)].append(str(mistake["loc"][-1]))
            continue
        if mistake["type"] in ("missing", "missing_argument"):
            line = f"{where}: required, but not given"
        elif mistake["type"] == "value_error":
            # Fields that do not fit each other have a line each, which starts with its own path.
            text = mistake["msg"].removeprefix("Value error, ")
            line = f"{where}: {text}" if where else text
        elif mistake["type"] == "literal_error":
            expected = mistake.get("ctx", {}).get("expected", "").replace("'", "")
            near = did_you_mean(str(mistake["input"]), _words(expected))
            line = f"{where}: {cut(str(mistake['input']))} is not one of {expected}{near}"
        else:
            text = re.sub("^(Input|String|Value|Dictionary) ", "", mistake["msg"])
            if text == "should be an object":
                text = f"is not a mapping{_as_mapping(where, mistake['input'], mappings)}"
            elif text == "should be a valid array":
                name = where.rpartition(".")[2]
                text = f"is not a list; write {name}: [{_plain_or_dots(mistake['input'])}]"
            line = f"{where}: {shorten(mistake['input'])} {text}"
        lines += line.splitlines()
    for path, keys in unknown.items():
        lines += unknown_keys(keys, by_path.get(path, ()), path)
    return lines


def _as_mapping(where: str, written: Any, mappings: Mapping[str, str]) -> str:
    """What to write in place of a plain value; nothing where that is not known."""
    mapping = mappings.get(where)
    if mapping is None:
        return ""
    mapping = mapping.replace("{}", _plain_or_dots(written))
    return f"; write {where.rpartition('.')[2]}: {mapping}"


def _plain_or_dots(written: Any) -> str:
    """A short plain value as it was written, else dots."""
    plain = isinstance(written, str | int) and not isinstance(written, bool)
    return str(written) if plain and len(str(written)) < 60 else "..."


def _words(listed: str) -> list[str]:
    """Split pydantic's `a, b or c` into words."""
    return listed.replace(" or ", ", ").split(", ")


def _is_union_branch(part: int | str) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str", "none"))


FLOAT_FIELDS = {
    field.name for field in dataclasses.fields(Recipe) if isinstance(field.default, float)
}
