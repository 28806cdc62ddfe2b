"""A sheet of thumbnails: a row of images for each of several titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from analysis.plot_style import new_figure, save_picture
from analysis.results.distribution import shortened

_SIDE, _GAP = 96, 4
_TITLE_CHARACTERS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """Images that belong together."""

    title: str
    images: npt.NDArray[np.uint8]
    """(images, H, W, 3)"""


def image_sheet(rows: Sequence[SheetRow], path: Path, *, title: str) -> Path:
    """Draw rows of thumbnails below each other as a PNG at path; return path."""
    step = _SIDE + _GAP
    columns = max(len(row.images) for row in rows)
    sheet = np.full((step * len(rows), step * columns, 3), 255, dtype=np.uint8)
    for number, row in enumerate(rows):
        for column, image in enumerate(row.images):
            thumbnail = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)
            top, left = step * number, step * column
            sheet[top : top + _SIDE, left : left + _SIDE] = np.asarray(thumbnail)
    figure = new_figure(2.6 + 0.7 * columns, 0.5 + 0.7 * len(rows))
    axes = figure.add_subplot()
    axes.imshow(sheet, interpolation="none")
    axes.set_xticks([])
    names = [shortened(row.title, _TITLE_CHARACTERS) for row in rows]
    axes.set_yticks([step * number + _SIDE / 2 for number in range(len(rows))], names, fontsize=7)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(shortened(title, 90), x=0.01, ha="left", fontsize=9, parse_math=False)
    return save_picture(figure, path)
