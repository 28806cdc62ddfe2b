"""How many images each class has: as numbers, a table, text and a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator
from rich.cells import cell_len
from rich.table import Table

from analysis.plot_style import new_figure, save_picture

LabelArray = npt.NDArray[np.integer]

# More names than these can't be read in one picture, or in one terminal.
_NAMED_IN_PICTURE = 60
_NAMED_IN_TEXT = 30


def images_per_class(labels: LabelArray, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Count the images of each class.

    labels: (images,), each the index of its class in classes. Returns (classes,); a class
    without images counts 0.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(classes))
    assert len(counts) == len(classes), "a label names no class"
    return counts.astype(np.int64)


def distribution_numbers(labels: LabelArray, classes: Sequence[str]) -> dict[str, int | float]:
    """Images, classes, and the per-class minimum, maximum, mean, std and median.

    std divides by the number of classes, not by one less.
    """
    counts = images_per_class(labels, classes)
    return {
        "images": int(counts.sum()),
        "classes": len(classes),
        "min": int(counts.min()),
        "max": int(counts.max()),
        "mean": float(counts.mean()),
        "std": float(counts.std()),
        "median": float(np.median(counts)),
    }


def distribution_table(labels: LabelArray, classes: Sequence[str]) -> Table:
    """Show `distribution_numbers` as a table, with the smallest and the largest classes."""
    numbers = distribution_numbers(labels, classes)
    counts = images_per_class(labels, classes)
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_column("class", overflow="fold")
    table.add_row("images", f"{numbers['images']:,}", "")
    table.add_row("classes", f"{numbers['classes']:,}", "", end_section=True)
    table.add_row(
        "fewest in a class", f"{numbers['min']:,}", _named(counts == counts.min(), classes)
    )
    table.add_row("most in a class", f"{numbers['max']:,}", _named(counts == counts.max(), classes))
    table.add_row("mean", f"{numbers['mean']:.1f}", "")
    table.add_row("standard deviation", f"{numbers['std']:.1f}", "")
    table.add_row("median", f"{numbers['median']:g}", "")
    return table


def distribution_text(labels: LabelArray, classes: Sequence[str], *, width: int = 80) -> str:
    """Draw the distribution in characters, at most width to a line.

    Few classes have a bar each, the largest first. For many, a bar counts the classes of a size.
    """
    counts = images_per_class(labels, classes)
    if len(classes) <= _NAMED_IN_TEXT:
        order: list[int] = np.argsort(-counts, kind="stable").tolist()
        bars = [(classes[index], int(counts[index])) for index in order]
        return "\n".join(["images per class", *_bars(bars, width)])
    # A bar covers a whole number of images; there are at most 16 bars.
    step = max(1, -(-int(counts.max() - counts.min() + 1) // 16))
    edges = range(int(counts.min()), int(counts.max()) + 1, step)
    bars = [
        (
            f"{low}" if step == 1 else f"{low}–{low + step - 1}",
            int(((counts >= low) & (counts < low + step)).sum()),
        )
        for low in edges
    ]
    return "\n".join(["how many classes have N images", *_bars(bars, width)])


def distribution_picture(
    labels: LabelArray, classes: Sequence[str], path: Path, *, title: str = ""
) -> Path:
    """Draw the images of each class as bars, the largest first, as a PNG at path; return path.

    At most 60 classes are named. title: what data it is.
    """
    counts = images_per_class(labels, classes)
    numbers = distribution_numbers(labels, classes)
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    named = len(classes) <= _NAMED_IN_PICTURE
    figure = new_figure(9, 4.8)
    axes = figure.add_subplot()
    indices = np.arange(len(classes))
    # Above some hundred bars a gap is thinner than a pixel and would only flicker.
    axes.bar(indices, counts[order], width=0.8 if len(classes) <= 200 else 1.0, color="#56B4E9")
    axes.axhline(
        float(numbers["mean"]), color="#D55E00", lw=1.5, label=f"mean {numbers['mean']:.1f}"
    )
    axes.axhline(
        float(numbers["median"]), color="#000000", lw=1.2, ls="--",
        label=f"median {numbers['median']:g}",
    )  # fmt: skip
    what = f"{numbers['images']:,} images, {numbers['classes']:,} classes"
    heading = f"{shortened(title, 30)}: {what}" if title else what
    axes.set_title(heading, loc="left", fontsize=11, parse_math=False)
    axes.set_ylabel("images per class")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    edge = max(0.6, (5 - len(classes)) / 2)  # keeps the bars of few classes narrow
    axes.set_xlim(-edge, len(classes) - 1 + edge)
    if named:
        size = 9 if len(classes) <= 25 else 6.5
        names = [shortened(classes[index], 28) for index in order]
        axes.set_xticks(indices, names, fontsize=size, rotation=90 if len(classes) > 6 else 0)
        for label in axes.get_xticklabels():
            label.set_parse_math(False)  # $ is a dollar
    else:
        axes.set_xlabel("classes, from the largest to the smallest")
    axes.spines[["top", "right"]].set_visible(False)
    # Above the axes, because bars may be as high as the axes.
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return save_picture(figure, path)


def _bars(bars: list[tuple[str, int]], width: int) -> list[str]:
    names = [shortened(name, max(8, width // 3)) for name, _ in bars]
    numbers = [f"{count:,}" for _, count in bars]
    # Wide characters, such as Chinese ones, take two cells.
    wide, long = max(map(cell_len, names)), max(map(len, numbers))
    room = max(1, width - wide - long - 2)
    most = max(1, *(count for _, count in bars))
    return [
        f"{name}{' ' * (wide - cell_len(name))} {number:>{long}}"
        f" {'█' * round(room * count / most)}".rstrip()
        for name, number, (_, count) in zip(names, numbers, bars, strict=True)
    ]


def _named(chosen: npt.NDArray[np.bool_], classes: Sequence[str]) -> str:
    names = [classes[index] for index in np.flatnonzero(chosen).tolist()]
    more = f" and {len(names) - 2} more" if len(names) > 3 else ""
    return ", ".join(names[: 2 if more else 3]) + more


def shortened(name: str, most: int) -> str:
    """Cut a name to at most `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
