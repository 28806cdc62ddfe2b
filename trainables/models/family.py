"""What a family of models is: where models come from, and all that is particular to them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.recipe import Recipe
from trainables.models.forward_steps import Step, last_layer

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """What a model's images go through first: (image - mean) / std, of RGB values from 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Most published weights were trained with these, and random ones train as well with them.
IMAGENET_NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One line of the list of models, counted with a head for 1,000 classes."""

    name: str
    input_size: int
    """The input size of its default weights, in pixels."""
    gmacs: float
    params: int
    imagenet_accuracy: float | None
    """Top-1 of its default weights on ImageNet, a fraction; None: there are no weights."""


def _always_imagenet(_recipe: Recipe) -> Normalization:
    return IMAGENET_NORMALIZATION


def _as_it_is(_model: nn.Module, state: State) -> State:
    return state


def _not_published(_name: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One source of models. To add one: a module that makes it, and a line in `families.FAMILIES`.

    Whatever raises a UserError begins it with the recipe's field, as `input_size: ...`.
    """

    has_name: Callable[[str], bool]
    """Whether a recipe's `model` is of this family; told without importing a package for it."""
    names: Callable[[], tuple[str, ...]]
    """The models to list and to suggest. A family may have others, where names follow a rule."""
    check_input_size: Callable[[str, int], None]
    """Raises UserError with the nearest size where the model of that name can't take so many
    pixels."""
    build: Callable[[Recipe, int], nn.Module]
    """The recipe's model on the CPU, its weights drawn from torch's global random state.

    From normalised (N, 3, input_size, input_size) to logits (N, num_classes), also in training. May
    assume what check_input_size lets through.
    """
    built: Callable[[nn.Module], bool]
    """Whether `steps` can take this model apart: by its class."""
    steps: Callable[[nn.Module], tuple[Step, ...]]
    """The forward pass of a model as modules of which each takes the last one's output. They share
    the model's own modules; what it does between them is a step without parameters."""
    head: Callable[[nn.Module], str] = last_layer
    """Path of the linear layer or convolution whose outputs are the classes."""
    normalization: Callable[[Recipe], Normalization] = _always_imagenet
    """What the recipe's model expects of its images, given its weights."""
    load_imagenet: Callable[[nn.Module, str], None] | None = None
    """Loads the published weights of the model of that name, but for the head. None: there are
    none. Raises UserError where they can't be had."""
    translate: Callable[[nn.Module, State], State] = _as_it_is
    """What was read from a file, with the model's keys and shapes where files have others."""
    published: Callable[[str], ModelSummary | None] = _not_published
    """What its source says of the model of that name. None: it is counted."""
    packages: tuple[str, ...] = ()
    """Of which versions models may differ in what they compute; torch is always one."""
