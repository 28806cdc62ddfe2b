"""What a family of models is: one source of models, and all that is special about them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from spaces.recipe import Recipe
from trainables.models.forward_steps import Step, last_layer

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """How a model's images are normalised: (image - mean) / std, for RGB values from 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Most published weights were trained with these. Random weights train well with them too.
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
    """Top-1 accuracy of its default weights on ImageNet, a fraction; None without weights."""


def _always_imagenet(_recipe: Recipe) -> Normalization:
    return IMAGENET_NORMALIZATION


def _as_it_is(_model: nn.Module, state: State) -> State:
    return state


def _not_published(_name: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One source of models. To add one, write a module for it and a line in `families.FAMILIES`.

    Every UserError must begin with the recipe's field, such as `input_size: ...`.
    """

    has_name: Callable[[str], bool]
    """Whether a recipe's `model` is of this family. Must not import a package for it."""
    names: Callable[[], tuple[str, ...]]
    """The models to list and to suggest. A family may have more, if names follow a rule."""
    check_input_size: Callable[[str, int], None]
    """If the model of that name can't take this size, raises UserError with the nearest size."""
    build: Callable[[Recipe, int], nn.Module]
    """The recipe's model on the CPU, with weights drawn from torch's global random state.

    From normalised (N, 3, input_size, input_size) to logits (N, num_classes), also in training. It
    may assume that check_input_size accepted the size.
    """
    built: Callable[[nn.Module], bool]
    """Whether `steps` can take this model apart, judged by its class."""
    steps: Callable[[nn.Module], tuple[Step, ...]]
    """The forward pass of a model as modules, each of which takes the output of the one before.
    They share the model's own modules. Operations between these are steps without parameters."""
    head: Callable[[nn.Module], str] = last_layer
    """The path of the linear layer or convolution whose outputs are the classes."""
    normalization: Callable[[Recipe], Normalization] = _always_imagenet
    """The normalisation that the recipe's model expects, given its weights."""
    load_imagenet: Callable[[nn.Module, str], None] | None = None
    """Loads the published weights of the model of that name, except the head. Raises UserError if
    it can't get them. None: there are no published weights."""
    translate: Callable[[nn.Module, State], State] = _as_it_is
    """Turns a file's state dict into one with the model's keys and shapes, if they differ."""
    published: Callable[[str], ModelSummary | None] = _not_published
    """The published figures of the model of that name. None: we count them."""
    packages: tuple[str, ...] = ()
    """Packages whose version may change what models compute. torch always counts."""
