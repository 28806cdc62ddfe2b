"""Exports a trial that was chosen from a front: its recipe with its numbers, or its model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.choose import Selection, choose
from analysis.columns import amount, in_a_sentence
from analysis.runs import Run, read_run
from search.followups.front_latency import remember_latency
from search.followups.source_run import data_of, resources_of
from search.storage.fetched_run import near_checkpoint, place_of
from spaces.columns import COSTS
from spaces.errors import UserError
from spaces.files import check_writable, make_folder, replace_file
from spaces.intervals import wilson_interval
from spaces.recipe import NUMBERS
from spaces.yaml_files import read_yaml_mapping, shorten, write_yaml

if TYPE_CHECKING:
    from trainables.export.verified_export import ModelForm


def export_recipe(run: Path, rule: str, out: Path | None = None) -> tuple[Path, str]:
    """Write the recipe that a rule picks from a run; returns its path and why it was picked.

    rule: as in `analysis.choose.choose`. out: RUN/export/trial-N.yaml by default.
    The file is a recipe file: `read_recipe` and `flopwise train` read it unchanged.
    Raises UserError if the rule picks nothing or the file can't be written.
    """
    read = read_run(run)
    choice = choose(read, rule)
    numbers = _numbers(read, choice, rule)
    path = out or read.path / "export" / f"trial-{choice.trial}.yaml"
    make_folder(path.parent)
    replace_file(path, write_yaml({**choice.recipe.to_dict(), NUMBERS: numbers}).encode())
    return path, choice.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExport:
    """A model file that was written, loaded again and checked."""

    path: Path
    card: Path
    """Its model card, in Markdown."""
    reason: str
    """Why this trial was picked."""
    checked: str
    """The result of the check, in one sentence."""
    latency: str | None
    """For ONNX files: milliseconds per image, and the machine."""


def export_model(run: Path, rule: str, form: "ModelForm", out: Path | None = None) -> ModelExport:
    """Write the model that the picked trial trained, with all that is needed to use it.

    out: RUN/export/trial-N.onnx by default, with the card beside it. The file is loaded again and
    tested on the whole validation split. If its accuracy differs from the trial's by more than 0.2
    points, it is removed. Raises UserError if the rule picks nothing, the trial's checkpoint is
    gone, the data is not the run's, the extra for this form is missing, the file can't be written,
    or the check fails.
    """
    read = read_run(run)
    choice = choose(read, rule)
    checkpoint = checkpoint_of(read, choice)
    numbers = _numbers(read, choice, rule)
    try:
        data = data_of(read)
    except UserError as error:
        raise UserError(f"{error}; export --format recipe needs no data") from None
    path = out or read.path / "export" / f"trial-{choice.trial}.{form}"
    card = path.with_name(f"{path.name}.md")
    make_folder(path.parent)
    check_writable(path)
    check_writable(card)
    # Imported late, so that other errors come without waiting for torch.
    from search.followups.confirmed import confirmed_accuracies
    from trainables.export.model_card import model_card
    from trainables.export.trained_model import load_trained
    from trainables.export.verified_export import export_verified
    from trainables.inference.latency import measure_latency
    from trainables.models.building import architecture_of

    trained = load_trained(choice.recipe, data, checkpoint, threads=numbers["threads"])
    about, checked = export_verified(trained, data, path, form)
    latency = measure_latency(path) if form == "onnx" else None
    if latency is not None:
        key = architecture_of(choice.recipe).key
        remember_latency(read.path, latency.machine, key, latency.median_ms)
    page = model_card(
        path,
        about,
        numbers=numbers,
        validation=wilson_interval(about.accuracy, len(data.rows("validation"))),
        metric=in_a_sentence(read.metric),
        reached=amount(read.metric, choice.row[read.metric]),
        tested=confirmed_accuracies(read).get(choice.trial),
        latency=latency,
        checked=checked,
        form=form,
    )
    replace_file(card, page.encode())
    return ModelExport(
        path=path,
        card=card,
        reason=choice.reason,
        checked=checked,
        latency=latency and f"{latency.median_ms:.2f} ms per image, one thread, {latency.machine}",
    )


def checkpoint_of(read: Run, choice: Selection) -> Path:
    """The checkpoint of a trial. Raises UserError if it is gone."""
    kept = choice.row.get("checkpoint")
    if not kept or not (path := near_checkpoint(read.path, str(kept))).is_dir():
        if choice.row.get("epochs_trained") == 0:
            raise UserError(
                f"trial {choice.trial}: its result is that of another trial with the same recipe,"
                " perhaps of a run under warm_start; export that one, or export --format recipe,"
                " and train it again"
            )
        raise UserError(
            f"trial {choice.trial}: its checkpoint is gone, since only trials on the front keep"
            " theirs; export --format recipe, and train it again"
        )
    return path


def _numbers(read: Run, choice: Selection, rule: str) -> dict[str, Any]:
    """What a recipe file says of its trial, besides the recipe."""
    provenance = read.study.get("provenance", {})
    resources = resources_of(read)
    return {
        "run": place_of(read.path),
        "trial": choice.trial,
        "picked": rule,
        "why": choice.reason,
        **{
            name: choice.row.get(name)
            for name in (*read.objectives.known_numbers, "epochs_trained", "seconds")
        },
        **{
            name: int(choice.row[name])  # analysis reads every number as a float
            for name, column in COSTS.items()
            if column.whole and choice.row[name] is not None
        },
        "device": resources.device,
        "threads": resources.cpus,
        "data": read.study.get("data", {}).get("path"),
        "data_digest": provenance.get("data_digest"),
        "num_classes": provenance.get("num_classes"),
        "versions": provenance.get("versions"),
    }


def recorded_numbers(path: Path) -> dict[str, Any]:
    """The numbers of the trial in an exported recipe file; empty for a file written by hand."""
    numbers = read_yaml_mapping(path).get(NUMBERS) or {}
    if not isinstance(numbers, dict):
        raise UserError(f"{path}: {NUMBERS}: {shorten(numbers)} should be a mapping; leave it out")
    return numbers
