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
_TOP5 = "in_top5"
_SCHEMA = pa.schema(
    {
        "recipe": pa.string(),  # its key, seed and all
        "run": pa.string(),  # the run folder beside this table
        "trial": pa.int64(),  # the trial's number there
        "seed": pa.int64(),
        "image": pa.int64(),  # row of the prepared data
        "label": pa.int64(),
        "answer": pa.int64(),
        "in_top5": pa.bool_(),  # whether the label is among the five best; null in older tables
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
                if _TOP5 not in table.column_names:
                    table = table.append_column(_TOP5, pa.nulls(len(table), pa.bool_()))
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
        in_top5: NDArray[np.bool_],
    ) -> None:
        """Record a model's predictions, before anything else is done with them.

        images, labels, predictions: (images,) rows of the data, true and predicted classes.
        in_top5: (images,) whether the true class is among the five most probable ones.
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
            _TOP5: in_top5,
        }
        self._table = pa.concat_tables([self._table, pa.table(columns, schema=_SCHEMA)])
        self._recipes.add(key)
        sink = pa.BufferOutputStream()
        pq.write_table(self._table.combine_chunks(), sink, compression="zstd")
        replace_file(self._path, memoryview(sink.getvalue()))

    def of(self, recipe_key: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Labels, predictions and in_top5 of a model, in the order of the data's rows."""
        rows = self._table.filter(pc.field("recipe") == recipe_key).sort_by("image")
        labels, answers = rows["label"].to_numpy(), rows["answer"].to_numpy()
        # An older table has only the best answers.
        in_top5 = pc.fill_null(rows[_TOP5], pa.scalar(False)).to_numpy() | (labels == answers)
        return labels, answers, in_top5
