import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from spaces.errors import UserError
from spaces.intervals import wilson_interval
from spaces.recipe import recipe_from
from trainables.data.dataset import ImageData, open_data, read_sources
from trainables.data.image_files import Reading, read_square
from trainables.export.pte_export import open_pte
from trainables.export.trained_model import Trained, load_trained
from trainables.export.verified_export import export_verified
from trainables.inference.latency import measure_latency
from trainables.inference.onnx_model import METADATA_KEY, ExportedModel, open_exported
from trainables.inference.predictions import evaluate, find_images, predict
from trainables.learning.checkpoint import CHECKPOINT_FILE
from trainables.models.family import IMAGENET_NORMALIZATION
from trainables.models.model_export import read_pt2
from trainables.prepare import prepare
from trainables.training import Training

RECIPES: dict[str, dict[str, Any]] = {
    "float": {"input_size": 48, "width": 0.25, "batch_norm": True, "epochs": 2},
    "int8": {"input_size": 48, "width": 0.25, "batch_norm": True, "epochs": 3, "qat": True},
    "int8 behind frozen blocks": {
        **{"input_size": 48, "width": 0.25, "batch_norm": True, "epochs": 3, "qat": True},
        "unfrozen": 2,
    },
}

HAS_EXECUTORCH = find_spec("executorch") is not None


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of PNG files: three colours, ten of each, larger than what is prepared."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir()
        for number in range(10):
            pixels = generator.integers(0, 120, (70, 80, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 100
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return prepare(str(photographs), tmp_path_factory.mktemp("prepared") / "data", size=64)


@pytest.fixture(scope="module", params=RECIPES)
def trained(
    request: pytest.FixtureRequest, data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """What a trial trained, from its checkpoint."""
    recipe = recipe_from(RECIPES[request.param])
    training = Training(recipe, data)
    while not training.done:
        training.run_epoch()
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save(training.state_dict(), folder / CHECKPOINT_FILE)
    loaded = load_trained(recipe, data, folder, threads=1)
    assert loaded.accuracy == training.history[-1].accuracy
    return loaded


@pytest.fixture(scope="module")
def file(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported float model."""
    training = Training(recipe_from(RECIPES["float"]), data)
    while not training.done:
        training.run_epoch()
    folder = tmp_path_factory.mktemp("exported")
    torch.save(training.state_dict(), folder / CHECKPOINT_FILE)
    export_verified(
        load_trained(training.recipe, data, folder), data, folder / "model.onnx", "onnx"
    )
    return folder / "model.onnx"


def test_what_is_exported_answers_as_what_was_trained(
    trained: Trained, data: ImageData, tmp_path: Path
):
    about, checked = export_verified(trained, data, tmp_path / "model.onnx", "onnx")
    model = open_exported(tmp_path / "model.onnx")
    assert model.about == about
    assert (about.classes, about.input_size, about.prepared_size) == (data.classes, 48, 64)
    assert "Loaded again" in checked
    found = evaluate(model, data.path)
    assert found.images == len(data.rows("validation"))
    assert found.accuracy == pytest.approx(trained.accuracy, abs=0.002)
    assert found.interval == wilson_interval(found.correct / found.images, found.images)


@pytest.mark.parametrize("trained", [name for name in RECIPES if "int8" in name], indirect=True)
def test_an_int8_model_is_stored_in_about_a_quarter_of_the_bytes(
    trained: Trained, data: ImageData, tmp_path: Path, file: Path
):
    export_verified(trained, data, tmp_path / "model.onnx", "onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.opset_import[0].version, proto.ir_version) == (17, 8)
    operators = {node.op_type for node in proto.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert (tmp_path / "model.onnx").stat().st_size < 0.6 * file.stat().st_size


def test_a_pt2_file_runs_in_torch(trained: Trained, data: ImageData, tmp_path: Path):
    export_verified(trained, data, tmp_path / "model.pt2", "pt2")
    images = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        expected = trained.torch_model()(images)
    torch.testing.assert_close(read_pt2(tmp_path / "model.pt2")(images), expected)


@pytest.mark.skipif(not HAS_EXECUTORCH, reason="the extra executorch is not installed")
def test_a_pte_file_runs_in_executorch(trained: Trained, data: ImageData, tmp_path: Path):
    about, checked = export_verified(trained, data, tmp_path / "model.pte", "pte")
    assert "Loaded again and run on the 6 images" in checked
    assert {"torch", "executorch"} <= set(about.versions)
    pixels_NHWC = data.at_size(48).take(data.rows("validation"))
    found = open_pte(tmp_path / "model.pte", IMAGENET_NORMALIZATION)(pixels_NHWC)
    expected = trained.logits(pixels_NHWC)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # int8 as in ONNX Runtime, too
    (tmp_path / "torn.pte").write_bytes((tmp_path / "model.pte").read_bytes()[:200])
    with pytest.raises(UserError, match=r"torn.pte: ExecuTorch can't run it: it is damaged"):
        open_pte(tmp_path / "torn.pte", IMAGENET_NORMALIZATION)


@pytest.mark.skipif(HAS_EXECUTORCH, reason="the extra executorch is installed")
@pytest.mark.parametrize("trained", ["float"], indirect=True)
def test_a_pte_file_is_refused_where_executorch_is_not_installed(
    trained: Trained, data: ImageData, tmp_path: Path
):
    with pytest.raises(UserError, match=r"^ExecuTorch is not installed: pip install '.*'$"):
        export_verified(trained, data, tmp_path / "model.pte", "pte")


def test_an_export_that_lost_accuracy_fails_and_leaves_no_file(
    trained: Trained, data: ImageData, tmp_path: Path
):
    promised = replace(trained, accuracy=trained.accuracy - 0.5)
    with pytest.raises(UserError, match=r"not exported: the file gets .* its trial got"):
        export_verified(promised, data, tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_latency_is_a_median_of_many_runs_and_names_the_machine(file: Path):
    latency = measure_latency(file)
    low, high = latency.quartiles_ms
    assert 0 < low <= latency.median_ms <= high
    assert latency.runs >= 50
    assert "ONNX Runtime" in latency.machine


def test_images_are_answered_as_prepared_data_is(file: Path, photographs: Path, data: ImageData):
    model = open_exported(file)
    sources = read_sources(data.path)
    row = int(data.rows("validation")[0])
    (answer,) = predict(model, [photographs / sources[row]], top=3)
    pixels = data.at_size(48).take([row])
    assert answer.probabilities == pytest.approx(
        sorted(model.probabilities(pixels)[0].tolist(), reverse=True), rel=1e-5
    )
    assert sum(answer.probabilities) == pytest.approx(1)
    assert set(answer.classes) == set(data.classes)


def test_a_folder_stands_for_its_images_and_a_broken_one_has_its_reason(
    file: Path, photographs: Path, tmp_path: Path
):
    shutil.copytree(photographs / "red", tmp_path / "red")
    (tmp_path / "red" / "broken.png").write_bytes(b"no image")
    files = find_images([tmp_path / "red"])
    predictions = list(predict(open_exported(file), files, top=1))
    assert len(predictions) == 11
    problems = [answer for answer in predictions if answer.problem]
    assert [answer.path.name for answer in problems] == ["broken.png"]
    assert problems[0].problem == "not an image that Pillow knows"
    with pytest.raises(UserError, match="there is no such file or folder"):
        find_images([tmp_path / "blue"])


def test_class_folders_are_evaluated_by_their_names(file: Path, photographs: Path, tmp_path: Path):
    model = open_exported(file)
    whole = evaluate(model, photographs)
    assert whole.images == 30
    shutil.copytree(photographs / "red", tmp_path / "some" / "red")
    (tmp_path / "some" / "red" / "broken.png").write_bytes(b"no image")
    some = evaluate(model, tmp_path / "some")
    assert some.by_class == {"red": whole.by_class["red"]}
    assert some.skipped == ("red/broken.png: not an image that Pillow knows",)
    (tmp_path / "some" / "violet").mkdir()
    with pytest.raises(UserError, match=r"does not know 1 of these 2: violet"):
        evaluate(model, tmp_path / "some")


def with_metadata(file: Path, out: Path, content: str | None) -> Path:
    proto = onnx.load(file)
    del proto.metadata_props[:]
    if content is not None:
        onnx.helper.set_model_props(proto, {METADATA_KEY: content})
    onnx.save(proto, out)
    return out


def test_files_that_are_no_exports_have_their_line(file: Path, tmp_path: Path):
    def line_of(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            open_exported(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no such file" in line_of(tmp_path / "none.onnx")
    assert "is a folder" in line_of(tmp_path)
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(file.read_bytes()[:1000])
    assert "damaged, or not an ONNX file" in line_of(torn)
    about = json.loads(open_exported(file).about.to_json())
    out = tmp_path / "other.onnx"
    assert "not exported by flopwise" in line_of(with_metadata(file, out, None))
    assert "can't be read" in line_of(with_metadata(file, out, "{}"))
    assert "can't be read" in line_of(with_metadata(file, out, "no JSON"))
    newer = json.dumps({**about, "format": 3})
    assert "newer flopwise" in line_of(with_metadata(file, out, newer))
    fewer = json.dumps({**about, "classes": ["red", "green"]})
    assert "names 2 classes but has 3 outputs" in line_of(with_metadata(file, out, fewer))
    recipe = tmp_path / "trial-1.yaml"
    recipe.write_text("{epochs: 1}")
    assert "is a recipe, not a model; export the trial with --format onnx" in line_of(recipe)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "is a named pipe, not a file" in line_of(tmp_path / "pipe.onnx")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_size": 0}, "input_size: 0 should be greater than or equal to 8"),
        ({"input_size": 64}, "it names an input of 64 px but takes ("),
        ({"prepared_size": 10**6}, "prepared_size: 1000000 should be less than or equal to 2048"),
        ({"prepared_size": 64.5}, "prepared_size: 64.5 should be a valid integer"),
        ({"mean": [0.5, 0.5]}, "mean.2: required, but not given"),
        ({"mean": [0.5, {}, 0.5]}, "mean.1: {} should be a valid number"),
        ({"std": [0.2, 0, 0.2]}, "std.1: 0 should be greater than 0"),
        ({"classes": [1, 2, 3]}, "classes.0: 1 should be a valid string"),
        ({"classes": []}, "classes: [] Tuple should have at least 1 item"),
        ({"accuracy": None}, "accuracy: None should be a valid number"),
        ({"format": "x"}, "its metadata can't be read"),
        ({"more": 1}, "more: unknown"),
    ],
)
def test_metadata_is_checked_as_any_input_is(
    file: Path, tmp_path: Path, changes: dict[str, Any], reason: str
):
    about = json.loads(open_exported(file).about.to_json())
    out = with_metadata(file, tmp_path / "other.onnx", json.dumps({**about, **changes}))
    with pytest.raises(UserError) as caught:
        open_exported(out)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metadata_that_is_not_utf_8_has_a_line(file: Path, tmp_path: Path):
    content = file.read_bytes()
    assert content.count(b'"format": 1') == 1
    out = tmp_path / "other.onnx"
    out.write_bytes(content.replace(b'"format": 1', b'"forma\xe6": 1'))
    with pytest.raises(UserError, match=r"other.onnx: damaged: its metadata is not UTF-8 text"):
        open_exported(out)


def test_a_damaged_checkpoint_has_its_line(data: ImageData, tmp_path: Path):
    recipe = recipe_from(RECIPES["float"])
    with pytest.raises(UserError, match="damaged"):
        load_trained(recipe, data, tmp_path)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"torn")
    with pytest.raises(UserError, match="damaged"):
        load_trained(recipe, data, tmp_path)
    begun = Training(recipe, data)
    begun.run_epoch()
    torch.save(begun.state_dict(), tmp_path / CHECKPOINT_FILE)
    with pytest.raises(UserError, match="not finished"):
        load_trained(recipe, data, tmp_path)
    with pytest.raises(UserError, match="another recipe"):
        load_trained(recipe.replace(seed=5), data, tmp_path)


def test_what_uses_an_export_does_not_import_torch():
    script = (
        "import sys, search.cli, search.commands.exported, trainables.inference.predictions,"
        " trainables.inference.latency; print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_model_that_is_open_says_what_it_is(file: Path, data: ImageData):
    model: ExportedModel = open_exported(file)
    assert open_data(data.path).classes == model.about.classes
    assert model.about.recipe["model"] == "baseline_cnn"
    assert "torch" in model.about.versions


@pytest.mark.parametrize("trained", ["float"], indirect=True)
def test_an_export_reads_images_as_its_data_did(trained: Trained, data: ImageData, tmp_path: Path):
    about, _ = export_verified(trained, replace(data, fit="pad"), tmp_path / "m.onnx", "onnx")
    model = open_exported(tmp_path / "m.onnx")
    assert (model.about, about.fit) == (about, "pad")
    wide = np.random.default_rng(0).integers(0, 256, (40, 160, 3), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (answer,) = predict(model, [tmp_path / "wide.png"], top=3)
    pixels = read_square(tmp_path / "wide.png", Reading(size=64, fit="pad")).pixels
    probabilities = model.probabilities(model.fit(pixels)[None])[0]
    assert answer.probabilities == pytest.approx(sorted(probabilities, reverse=True))
    cropped = read_square(tmp_path / "wide.png", Reading(size=64)).pixels
    assert model.probabilities(model.fit(cropped)[None])[0] != pytest.approx(probabilities)


def test_only_exports_that_older_versions_would_read_wrongly_have_a_newer_format(file: Path):
    about = open_exported(file).about
    assert json.loads(about.to_json())["format"] == 1
    assert json.loads(replace(about, fit="pad").to_json())["format"] == 2


def test_names_of_classes_are_in_the_metadata_as_written(file: Path, tmp_path: Path):
    names = ("cat [old]", 'x, "y"', "<b>=1+1")
    about = replace(open_exported(file).about, classes=names)
    named = with_metadata(file, tmp_path / "named.onnx", about.to_json())
    assert open_exported(named).about.classes == names
