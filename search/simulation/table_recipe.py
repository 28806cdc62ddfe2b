"""A recipe of a table whose dimensions need not be the fields of our recipes."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from spaces.dimensions import Value
from spaces.recipe import Recipe, digest_of


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class TableRecipe(Recipe):
    """The values of a table's dimensions, in the place of a recipe's fields.

    A ledger, samplers and stopping rules see in it what they see in any recipe: its values, key,
    epochs, seed and schedule. The other fields of a recipe keep their defaults and mean nothing.
    """

    values: Mapping[str, Value] = field(default_factory=dict, hash=False)
    """By dimension. None: it is absent."""
    # Schedules of other trainers have names of their own.
    scheduler: str = "constant"  # pyright: ignore[reportIncompatibleVariableOverride]

    def __hash__(self) -> int:
        return hash((*sorted(self.values.items(), key=str), self.epochs, self.seed))

    @property
    def key(self) -> str:
        return digest_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        return {**self.values, "epochs": self.epochs, "seed": self.seed}

    def replace(self, **changes: Any) -> "TableRecipe":
        values = {**self.to_dict(), **changes}
        epochs, seed = values.pop("epochs"), values.pop("seed")
        return table_recipe(values, epochs=epochs, seed=seed)


def table_recipe(values: Mapping[str, Value], *, epochs: int, seed: int = 0) -> TableRecipe:
    """The recipe of these values. A dimension named scheduler is its schedule too."""
    scheduler = str(values.get("scheduler", "constant"))
    return TableRecipe(values=values, epochs=epochs, seed=seed, scheduler=scheduler)
