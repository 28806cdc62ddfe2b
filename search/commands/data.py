"""`flopwise data`: prepare images, add more, show them, make synthetic ones."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from search.commands.printing import console, near, print_json, progress_bar

app = typer.Typer(
    help="Prepare images, add more, show them, or make synthetic ones.", no_args_is_help=True
)

# Clusters of near-duplicates that are drawn, and images of each.
_DRAWN_CLUSTERS, _DRAWN_IMAGES = 12, 8

Out = Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")]
Size = Annotated[
    int, typer.Option(min=8, max=2048, help="Height and width of the stored images, in pixels.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split and of generated images.")]
SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A folder of class folders or of Parquet shards, a table, or torchvision:NAME.",
    ),
]
TableFile = Annotated[
    Path | None,
    typer.Option("--table", help="Labels of the images in SRC: .csv, .tsv or .parquet."),
]
Images = Annotated[
    Path | None, typer.Option(help="The folder that the paths in a table start at. Default: SRC.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="WHAT=NAME", help="A table's column for path, label, split or group."
    ),
]
Splits = Annotated[
    Literal["auto", "folders", "random"],
    typer.Option(help="Take those of SRC if it has any, insist on them, or draw them."),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="Keep in one split what shares its folder (folder), a column of the table, or what"
        " this regular expression finds in the path.",
    ),
]
MinImages = Annotated[
    int, typer.Option(min=0, help="Leave classes out that have fewer different images.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out.")]
MaxMegapixels = Annotated[
    float | None, typer.Option(min=0.001, help="Refuse larger images. Default: about 89.")
]


@app.command()
def prepare(
    source: SourceName,
    out: Out,
    size: Size = 224,
    fit: Annotated[
        Literal["crop", "pad", "stretch"],
        typer.Option(help="Cut out the centre square, add black beside the image, or stretch it."),
    ] = "crop",
    table: TableFile = None,
    images: Images = None,
    column: Columns = None,
    splits: Splits = "auto",
    group: Group = None,
    validation: Annotated[float, typer.Option(help="Fraction held out to compare recipes.")] = 0.15,
    test: Annotated[float, typer.Option(help="Fraction held out for the final test.")] = 0.15,
    seed: Seed = 0,
    near_duplicates: Annotated[
        bool,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Find near-duplicates, and keep them in one split.",
        ),
    ] = True,
    min_images: MinImages = 0,
    skip_bad: SkipBad = False,
    max_megapixels: MaxMegapixels = None,
    bits: Annotated[
        int | None,
        typer.Option(
            min=8, max=16, help="Bits of white in images of more than 8. Default: each one's own."
        ),
    ] = None,
) -> None:
    """Turn labelled images into memory-mapped data with a train, validation and test split.

    Every image comes out upright and in RGB, as a square of the given size.
    """
    from trainables.data.opening import open_source
    from trainables.data.writing import check_free
    from trainables.prepare import prepare

    check_free(out)  # before the images are looked for, which may take long
    with _ended_as_by_ctrl_c(), progress_bar("preparing") as progress:
        data = prepare(
            open_source(
                source,
                table=table,
                images=images,
                columns=_columns(column),
                splits=splits,
                group=group,
            ),
            out,
            size=size,
            fit=fit,
            bits=bits,
            max_megapixels=max_megapixels,
            skip_bad=skip_bad,
            validation=validation,
            test=test,
            seed=seed,
            min_images=min_images,
            near_duplicates=near_duplicates,
            progress=progress,
        )
    _tell(data)


@app.command()
def append(
    out: Annotated[Path, typer.Argument(help="Prepared data.")],
    source: SourceName,
    table: TableFile = None,
    images: Images = None,
    column: Columns = None,
    splits: Splits = "auto",
    group: Group = None,
    min_images: MinImages = 0,
    skip_bad: SkipBad = False,
    max_megapixels: MaxMegapixels = None,
) -> None:
    """Add images to prepared data. Those that it has already keep their split.

    SRC may hold the old images too: they are not decoded again.
    """
    from trainables.data.dataset import open_data
    from trainables.data.opening import open_source
    from trainables.prepare import append

    before = open_data(out)
    with _ended_as_by_ctrl_c(), progress_bar("appending") as progress:
        data = append(
            out,
            open_source(
                source,
                table=table,
                images=images,
                columns=_columns(column),
                splits=splits,
                group=group,
            ),
            max_megapixels=max_megapixels,
            skip_bad=skip_bad,
            min_images=min_images,
            progress=progress,
        )
    if data.digest == before.digest:
        console().print(f"{near(data.path)}: has all of these images already", soft_wrap=True)
    else:
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

    with _ended_as_by_ctrl_c(), progress_bar("drawing") as progress:
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
    """Show the images of each class, and how many there are, and near-duplicates."""
    from analysis.results.distribution import (
        distribution_numbers,
        distribution_picture,
        distribution_table,
        distribution_text,
    )
    from trainables.data.dataset import near_duplicates_of, open_data, read_sources

    opened = open_data(data)
    clusters = near_duplicates_of(opened.path)
    if as_json:
        sources = read_sources(opened.path)
        print_json(
            {
                **distribution_numbers(opened.labels, opened.classes),
                "near_duplicates": [[sources[row] for row in rows] for rows in clusters],
            }
        )
        return
    from analysis.plots.image_sheets import samples_picture
    from analysis.results.guessing import describe_guess_on
    from search.followups.image_samples import class_samples

    screen = console()
    _tell(opened)
    screen.print(distribution_table(opened.labels, opened.classes))
    screen.print(distribution_text(opened.labels, opened.classes, width=screen.width))
    path = picture or opened.path.with_name(f"{opened.path.name}-classes.png")
    distribution_picture(opened.labels, opened.classes, path)
    guess = describe_guess_on(opened.classes, opened.class_counts("validation"))
    screen.print(guess, soft_wrap=True)
    screen.print(f"picture: {near(path)}", soft_wrap=True)
    sheet = path.with_name(f"{path.stem.removesuffix('-classes')}-samples.png")
    title = f"{opened.name}: some images of each class"
    samples_picture(class_samples(opened), sheet, title=title)
    screen.print(f"images of each class: {near(sheet)}", soft_wrap=True)
    if clusters:
        path = path.with_name(f"{path.stem}-near-duplicates.png")
        _draw_clusters(opened, clusters, path)
        screen.print(
            f"largest clusters of near-duplicates: {near(path)}",
            soft_wrap=True,
        )


def _draw_clusters(data: Any, clusters: Sequence[Sequence[int]], path: Path) -> None:
    from analysis.plots.image_sheets import samples_picture
    from analysis.results.image_samples import ClassSamples, Samples

    drawn = tuple(
        ClassSamples(
            name=", ".join(sorted({data.classes[data.labels[row]] for row in cluster})),
            num_images=len(cluster),
            images=data.pixels.take(cluster[:_DRAWN_IMAGES]),
        )
        for cluster in clusters[:_DRAWN_CLUSTERS]
    )
    title = f"{data.name}: the largest of {len(clusters):,} clusters of near-duplicates"
    samples_picture(Samples(classes=drawn), path, title=title)


def _columns(written: list[str] | None) -> dict[str, str]:
    """What --column says, by what a column means."""
    from spaces.errors import UserError

    wrong = [one for one in written or [] if "=" not in one]
    if wrong:
        raise UserError(f"--column {wrong[0]}: write WHAT=NAME, such as label=species")
    return dict(one.split("=", maxsplit=1) for one in written or [])


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, and a terminal that is closed, clean up as Ctrl-C does."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(data) -> None:
    screen = console()
    parts = ", ".join(
        f"{len(data.rows(split)):,} {split}" for split in ("train", "validation", "test")
    )
    kind = "synthetic images" if data.synthetic else "images"
    screen.print(
        f"{near(data.path)}: {len(data):,} {kind} of {len(data.classes)} classes,"
        f" {data.size} x {data.size} px ({parts})",
        soft_wrap=True,
    )
    for note in data.notes:
        screen.print(f"note: {note}", soft_wrap=True)
