"""Sheets of images: samples of each class, and the chosen model's surest mistakes.

The page has images as JPEGs, with their words as text. A PNG file has all in one picture.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image

from analysis.columns import write_percent
from analysis.plot_style import new_figure, picture_text, save_picture
from analysis.plots.classes import class_name
from analysis.results.distribution import shortened
from analysis.results.image_samples import Mistake, Pixels, Samples
from analysis.results.report_data import ReportData

_GAP = 4  # pixels between images
_SAMPLE_PIXELS, _MISTAKE_PIXELS = 72, 192
_SAMPLE_WIDTH, _MISTAKE_WIDTH = 67, 168  # on the page
_INCH = 150  # pixels of every picture
_NAME_PIXELS, _TITLE_PIXELS = 200, 44
# From this many classes on, a sheet has two columns of them; of more, up to four.
_CLASSES_IN_A_COLUMN = 16
_MISTAKES_IN_A_ROW = 8
_CAPTION_PIXELS = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Images side by side on the page, with words below."""

    url: str
    """The images as a data URL."""
    width: int
    """In pixels of the page."""
    caption: str
    notes: tuple[str, ...]
    """Smaller words, a line each below the caption."""


def draw_samples_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a row of images for each class; nothing where the images are not here."""
    if not isinstance(data.samples, Samples):
        return []
    title = f"{data.run.name}: some images of each class"
    return [samples_picture(data.samples, folder / "samples.png", title=title)]


def draw_samples_strips(data: ReportData) -> list[Strip]:
    """A strip of images for each class; nothing where the images are not here."""
    if not isinstance(data.samples, Samples):
        return []
    return [
        Strip(
            url=_jpeg(_side_by_side(one.images)),
            width=len(one.images) * _SAMPLE_WIDTH,
            caption=one.name,
            notes=(f"{one.num_images:,} image{'s' * (one.num_images != 1)}",),
        )
        for one in data.samples.classes
    ]


def describe_samples(data: ReportData) -> str:
    """What the strips show, for the page."""
    assert isinstance(data.samples, Samples)
    left_out = data.samples.num_left_out
    more = f" {left_out:,} more classes are left out." if left_out else ""
    return f"Some images of each class, from all over its images, as they were prepared.{more}"


def samples_picture(samples: Samples, path: Path, *, title: str) -> Path:
    """Draw a row of images for each class, or other group, as a PNG at path, and return path.

    Raises UserError if the file can't be written.
    """
    count, cell = len(samples.classes), _SAMPLE_PIXELS + _GAP
    columns = min(4, -(-count // _CLASSES_IN_A_COLUMN))
    rows = -(-count // columns)
    each = max(len(one.images) for one in samples.classes)
    column_width = _NAME_PIXELS + each * cell + 3 * _GAP
    sheet = np.full((rows * cell, columns * column_width, 3), 255, dtype=np.uint8)
    names: list[tuple[int, int, str, str]] = []
    for index, one in enumerate(samples.classes):
        column, row = divmod(index, rows)
        left, top = column * column_width + _NAME_PIXELS, row * cell
        strip = _side_by_side(_resized(one.images, _SAMPLE_PIXELS))
        sheet[top : top + _SAMPLE_PIXELS, left : left + strip.shape[1]] = strip
        number = f"{one.num_images:,}"
        names.append((left - 10, top + _SAMPLE_PIXELS // 2, one.name, number))
    left_out = f"; {samples.num_left_out:,} more classes left out" * bool(samples.num_left_out)
    figure = _figure_around(sheet, f"{title}{left_out}")
    axes = figure.axes[0]
    for x, y, name, number in names:
        axes.text(
            x, y - 8, class_name(name, 26), ha="right", va="center", fontsize=6, color="#1f2328"
        )
        axes.text(x, y + 10, number, ha="right", va="center", fontsize=5, color="#59636e")
    return save_picture(figure, path)


def draw_mistakes_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the surest mistakes; nothing where there are none, or no predictions."""
    if not data.mistakes:
        return []
    title = f"{data.run.name}: validation images that the chosen model is sure and wrong about"
    return [mistakes_picture(data.mistakes, folder / "mistakes.png", title=title)]


def draw_mistakes_strips(data: ReportData) -> list[Strip]:
    """A strip of one image for each of the surest mistakes."""
    return [
        Strip(
            url=_jpeg(one.image),
            width=_MISTAKE_WIDTH,
            caption=f"{one.predicted}, {write_percent(one.confidence)} % sure",
            notes=(f"label: {one.label}", one.source),
        )
        for one in data.mistakes
    ]


def mistakes_picture(mistakes: Sequence[Mistake], path: Path, *, title: str) -> Path:
    """Draw mistakes with both labels as a PNG at path, and return path.

    Raises UserError if the file can't be written.
    """
    wide, tall = _MISTAKE_PIXELS + 4 * _GAP, _MISTAKE_PIXELS + _CAPTION_PIXELS
    columns = min(_MISTAKES_IN_A_ROW, max(4, len(mistakes)))
    rows = -(-len(mistakes) // columns)
    sheet = np.full((rows * tall, columns * wide, 3), 255, dtype=np.uint8)
    places = [(index % columns * wide, index // columns * tall) for index in range(len(mistakes))]
    for (left, top), one in zip(places, mistakes, strict=True):
        image = _resized(one.image[None], _MISTAKE_PIXELS)[0]
        sheet[top : top + _MISTAKE_PIXELS, left : left + _MISTAKE_PIXELS] = image
    figure = _figure_around(sheet, title)
    axes = figure.axes[0]
    for (left, top), one in zip(places, mistakes, strict=True):
        for line, text, colour in (
            (0, shortened(one.predicted, 22), "#b35900"),
            (1, f"{write_percent(one.confidence)} % sure", "#59636e"),
            (2, f"label: {shortened(one.label, 16)}", "#1f2328"),
        ):
            axes.text(
                left, top + _MISTAKE_PIXELS + 13 + 19 * line, picture_text(text), va="center",
                fontsize=6.5, color=colour,
            )  # fmt: skip
    return save_picture(figure, path)


def _figure_around(sheet: Pixels, title: str):
    """A figure that shows a sheet pixel by pixel below its title."""
    height, width = sheet.shape[:2]
    lines = wrap(title, max(40, width // 8))
    above = _TITLE_PIXELS + 18 * (len(lines) - 1)
    margin = 3 * _GAP
    full_width, full_height = width + 2 * margin, height + above + margin
    figure = new_figure(full_width / _INCH, full_height / _INCH)
    figure.set_layout_engine("none")
    axes = figure.add_axes(
        (margin / full_width, margin / full_height, width / full_width, height / full_height)
    )
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    figure.text(
        margin / full_width, 1 - 12 / full_height, picture_text("\n".join(lines)), fontsize=7,
        va="top",
    )  # fmt: skip
    return figure


def _side_by_side(images: Pixels) -> Pixels:
    """(images, side, side, 3) as one image, with white gaps between them."""
    padded = np.pad(images, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)[:, :-_GAP]


def _resized(images: Pixels, side: int) -> Pixels:
    return np.stack(
        [
            np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.LANCZOS))
            for one in images
        ]
    )


def _jpeg(image: Pixels) -> str:
    """An image as a data URL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
