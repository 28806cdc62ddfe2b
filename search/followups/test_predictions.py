"""Predictions on the test split: a table beside a run, to which each model is added only once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.followups.recipe_runs import RecipeRun
from spaces.errors import UserError
from spaces.files import read_file, replace_file

TESTED_FILE = "tested.parquet"
_SCHEMA = pa.schema(
    {
        "recipe": pa.string(),  # its key, seed and all
        "run": pa.string(),  # the run folder beside this table
        "trial": pa.int64(),  # the trial's number there
        "seed": pa.int64(),
        "image": pa.int64(),  # row of the prepared data
        "label": pa.int64(),
        "answer": pa.int64(),
    }.items()
)


class AnswerTable:
    """A row for each model and test image, in a file that is always replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        """Read the table. Raises UserError if the file is damaged."""
        self._path = folder / TESTED_FILE
        self._table = _SCHEMA.empty_table()
        if self._path.exists():
            try:
                table = pq.read_table(pa.BufferReader(read_file(self._path, what="table")))
                self._table = table.select(_SCHEMA.names).cast(_SCHEMA)
            except (OSError, KeyError, TypeError, pa.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{self._path}: damaged ({reason}); restore it") from None
        self._recipes = set(self._table["recipe"].to_pylist())

    def __contains__(self, recipe_key: str) -> bool:
        return recipe_key in self._recipes

    def add(
        self,
        trial: RecipeRun,
        *,
        images: NDArray[np.int64],
        labels: NDArray[np.int64],
        predictions: NDArray[np.int64],
    ) -> None:
        """Record a model's predictions, before anything else is done with them.

        images, labels, predictions: (images,) rows of the data, true and predicted classes.
        """
        key, count = trial.recipe.key, len(images)
        assert key not in self, f"{key} is tested twice"
        columns = {
            "recipe": [key] * count,
            "run": [trial.folder.name] * count,
            "trial": [trial.trial] * count,
            "seed": [trial.recipe.seed] * count,
            "image": images,
            "label": labels,
            "answer": predictions,
        }
        self._table = pa.concat_tables([self._table, pa.table(columns, schema=_SCHEMA)])
        self._recipes.add(key)
        sink = pa.BufferOutputStream()
        pq.write_table(self._table.combine_chunks(), sink, compression="zstd")
        replace_file(self._path, memoryview(sink.getvalue()))

    def correct(self, recipe_key: str) -> NDArray[np.bool_]:
        """(images,): whether a model's prediction was right, in the order of the data's rows."""
        rows = self._table.filter(pc.field("recipe") == recipe_key)
        rows = rows.sort_by("image")
        return rows["label"].to_numpy() == rows["answer"].to_numpy()
