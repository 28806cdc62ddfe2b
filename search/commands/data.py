"""`flopwise data`: prepare images, show them, make synthetic ones."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.printing import console, near, print_json, progress_bar

app = typer.Typer(help="Prepare images, show them, or make synthetic ones.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")]
Size = Annotated[
    int, typer.Option(min=8, max=2048, help="Height and width of the stored images, in pixels.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split and of generated images.")]


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A folder of class folders, or torchvision:NAME.")],
    out: Out,
    size: Size = 224,
    seed: Seed = 0,
    validation: Annotated[float, typer.Option(help="Fraction held out to compare recipes.")] = 0.15,
    test: Annotated[float, typer.Option(help="Fraction held out for the final test.")] = 0.15,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable images out.")
    ] = False,
) -> None:
    """Turn a folder of labelled images into memory-mapped data, split by class.

    Every image comes out upright and in RGB, its largest centre square resized to the given size.
    """
    from trainables.prepare import prepare

    with progress_bar("preparing") as progress:
        data = prepare(
            source,
            out,
            size=size,
            seed=seed,
            skip_bad=skip_bad,
            validation=validation,
            test=test,
            progress=progress,
        )
    _tell(data)


@app.command()
def demo(
    out: Out,
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 151,
    seed: Seed = 0,
    size: Size = 128,
) -> None:
    """Make synthetic data with the shape of the 151 animals: 26 to 60 images per class."""
    from trainables.data.demo_images import make_demo

    with progress_bar("drawing") as progress:
        data = make_demo(out, classes=classes, seed=seed, size=size, progress=progress)
    _tell(data)


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="Prepared data.")],
    picture: Annotated[
        Path | None, typer.Option(help="Where to write the PNG. Default: beside the data.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the images of each class, and how many there are, in numbers and as pictures."""
    from analysis.results.distribution import (
        distribution_numbers,
        distribution_picture,
        distribution_table,
        distribution_text,
    )
    from trainables.data.dataset import open_data

    opened = open_data(data)
    if as_json:
        print_json(distribution_numbers(opened.labels, opened.classes))
        return
    from analysis.plots.image_sheets import samples_picture
    from analysis.results.guessing import describe_guess_on
    from search.followups.image_samples import class_samples

    screen = console()
    _tell(opened)
    screen.print(distribution_table(opened.labels, opened.classes))
    screen.print(distribution_text(opened.labels, opened.classes, width=screen.width), markup=False)
    path = picture or opened.path.with_name(f"{opened.path.name}-classes.png")
    distribution_picture(opened.labels, opened.classes, path)
    guess = describe_guess_on(opened.classes, opened.class_counts("validation"))
    screen.print(guess, markup=False, soft_wrap=True)
    screen.print(f"picture: {near(path)}", markup=False, soft_wrap=True)
    sheet = path.with_name(f"{path.stem.removesuffix('-classes')}-samples.png")
    samples_picture(class_samples(opened), sheet, title=opened.name)
    screen.print(f"images of each class: {near(sheet)}", markup=False, soft_wrap=True)


def _tell(data) -> None:
    screen = console()
    parts = ", ".join(
        f"{len(data.rows(split)):,} {split}" for split in ("train", "validation", "test")
    )
    kind = "synthetic images" if data.synthetic else "images"
    screen.print(
        f"{near(data.path)}: {len(data):,} {kind} of {len(data.classes)} classes,"
        f" {data.size} x {data.size} px ({parts})",
        markup=False,
        soft_wrap=True,
    )
    for note in data.notes:
        screen.print(f"note: {note}", markup=False, soft_wrap=True)
