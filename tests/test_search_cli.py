import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from analysis_runs import trial_row, write_run
from PIL import Image
from rich.console import Console
from searches import ONE_WORKER, FinishedSearch, write_study
from typer.testing import CliRunner

from search import cli
from search.commands import recipes
from search.commands.printing import short_lines
from search.storage.optuna_storage import open_study
from search.storage.run_lock import run_lock
from search.storage.warm_start import read_complete_trials
from search.study.study import load_study
from spaces.errors import UserError
from trainables.data.dataset import ImageData
from trainables.data.writing import DataWriter, new_folder
from trainables.system import addresses

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(app: typer.Typer, prefix: str = "") -> list[str]:
    names = [
        f"{prefix}{command.name or getattr(command.callback, '__name__', '')}"
        for command in app.registered_commands
    ]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        names += commands(group.typer_instance, f"{prefix}{group.name} ")
    return names


def test_every_command_has_help_and_is_documented():
    pages = "\n".join(page.read_text() for page in PAGES)
    names = commands(cli.app)
    assert len(names) > 8
    for name in names:
        result = CliRunner().invoke(cli.app, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 6
        assert f"flopwise {name}" in pages, f"flopwise {name} is in no page"


def documented_lines() -> list[str]:
    lines = []
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash)?\n(.*?)```", page.read_text(), re.DOTALL):
            lines += re.findall(r"^(?:\$ )?((?:\.venv/bin/)?flopwise .*)$", block, re.MULTILINE)
    return lines


@pytest.mark.parametrize("line", documented_lines())
def test_commands_in_the_documentation_are_commands(line: str):
    import shlex

    words = shlex.split(line, comments=True)[1:]
    result = CliRunner().invoke(cli.app, [*words, "--help"])
    assert result.exit_code == 0, f"{line}\n{result.output}"


def test_cost_prints_the_anchors_to_the_digit(flopwise, tmp_path: Path):
    baseline = tmp_path / "baseline.yaml"
    baseline.write_text("{model: baseline_cnn, input_size: 112}")
    code, out, _ = flopwise("cost", baseline, "--classes", 151)
    assert code == 0
    assert "0.711022336" in out
    assert "857,239" in out
    baseline.write_text("{model: baseline_cnn, input_size: 112, batch_norm: true}")
    assert "858,135" in flopwise("cost", baseline, "--classes", 151)[1]
    large = tmp_path / "large.yaml"
    large.write_text("{model: mobilenet_v3_large, input_size: 224}")
    found = json.loads(flopwise("cost", large, "--classes", 151, "--json")[1])
    assert found["gflops"] == 0.431006080
    assert found["latency_ms"] is None


@pytest.mark.parametrize("columns", [120, 40])
def test_cost_by_layer_compares_the_sums_in_its_last_line(
    flopwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setattr(recipes, "console", lambda: Console(width=columns, highlight=False))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{model: mobilenet_v3_small, input_size: 64, qat: true}")
    code, out, err = flopwise("cost", recipe, "--classes", 10, "--by-layer")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for figure in ("classifier.0", "590,848", "589,824", "1024"):  # none is cut
        assert figure in out
    assert lines[-1] == (
        "sums: 5,502,720 multiply-adds; fvcore counts 5,758,976, of which 230,656 for batch_norm"
        " and 25,600 for adaptive_avg_pool2d are left out here; the other 5,502,720 are equal"
    )
    assert lines[-2].startswith("operators that fvcore misses: aten::hardswish_ (19), ")
    found = json.loads(flopwise("cost", recipe, "--classes", 10, "--by-layer", "--json")[1])
    assert sum(layer["macs"] for layer in found["layers"]) == 5_502_720 == found["gmacs"] * 1e9
    assert {layer["bits"] for layer in found["layers"]} == {8, None}
    assert found["fvcore"]["total"] == 5_758_976
    assert found["fvcore"]["problem"] is None


def test_data_is_prepared_and_shown(flopwise, tmp_path: Path):
    for label, colour in (("cat", 60), ("dog", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, colour, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    code, out, _ = flopwise("data", "prepare", tmp_path / "photos", tmp_path / "data", "--size", 16)
    assert code == 0
    assert "16 images of 2 classes" in out
    code, out, _ = flopwise("data", "show", tmp_path / "data")
    assert code == 0
    assert "cat" in out
    assert (tmp_path / "data-classes.png").stat().st_size > 5_000
    numbers = json.loads(flopwise("data", "show", tmp_path / "data", "--json")[1])
    assert (numbers["images"], numbers["classes"]) == (16, 2)


def test_demo_data_says_that_it_is_synthetic(flopwise, tmp_path: Path):
    code, out, _ = flopwise("data", "demo", tmp_path / "d", "--classes", 2, "--size", 32)
    assert code == 0
    assert "synthetic" in out


def test_models_are_listed_with_their_blocks(flopwise):
    assert "mobilenet_v3_large" in flopwise("models", "list")[1]
    rows = json.loads(flopwise("models", "show", "mobilenet_v2", "--json")[1])["rows"]
    assert [row["name"] for row in rows][:2] == ["features.0", "features.1"]
    assert "layer4.1" in flopwise("models", "show", "resnet18")[1]


def test_results_of_a_run_are_shown_exported_and_trained_again(
    flopwise, finished_search: FinishedSearch, demo_data: ImageData, tmp_path: Path
):
    finished = load_study(finished_search.copy(tmp_path)).folder
    code, out, _ = flopwise("status", finished)
    assert code == 0
    assert "6 complete" in out
    assert json.loads(flopwise("status", finished, "--json")[1])["complete"] == 6
    code, out, _ = flopwise("front", finished)
    assert code == 0
    assert "accuracy" in out
    assert (finished / "export" / "front.png").stat().st_size > 5_000
    records = json.loads(flopwise("front", finished, "--json")[1])
    best = max(record["accuracy"] for record in records)
    code, out, _ = flopwise("watch", finished)  # over, so that it is shown once
    assert code == 0
    assert "6 complete" in out
    assert "Front of tiny" in out
    picture = tmp_path / "fronts.png"
    code, out, _ = flopwise("compare", finished, finished, "--picture", picture)
    assert code == 0
    assert picture.stat().st_size > 5_000
    compared = json.loads(flopwise("compare", finished, finished, "--json")[1])
    assert [one["only_here"] for one in compared] == [[], []]
    recipe = tmp_path / "best.yaml"
    code, out, _ = flopwise("export", finished, "--pick", "most-accurate", "--out", recipe)
    assert code == 0
    assert str(recipe) in out
    weights = tmp_path / "best.pt"
    code, out, _ = flopwise("train", recipe, "--data", demo_data.path, "--out", weights)
    assert code == 0
    assert f"validation accuracy {best:.2%}; the search recorded {best:.2%}" in out
    assert weights.stat().st_size > 1_000


def test_narrowing_and_overriding_from_the_command_line(
    two_workers: None, flopwise, demo_data: ImageData, tmp_path: Path
):
    path = write_study(tmp_path, demo_data, resources=ONE_WORKER)
    words = ("--trials", 2, "--fix", "width=0.11", "--fix", "input_size=[48]", "--seed", 3)
    code, out, err = flopwise("search", path, *words)
    assert code == 0, err
    assert "searched for" in out
    records = json.loads(flopwise("front", tmp_path / "runs" / "tiny", "--json")[1])
    assert {record["width"] for record in records} == {0.11}
    assert {record["seed"] for record in records} == {3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "{tmp}/none.yaml"], "none.yaml: there is no such file"),
        (["search", "{tmp}/bad.yaml"], "budget.trails: unknown; did you mean trials?"),
        (["search", "{tmp}/study.yaml", "--resume"], "no search was begun here"),
        (["search", "{tmp}/study.yaml", "--fix", "widht=1"], "widht: unknown; did you mean width?"),
        (["search", "{tmp}/study.yaml", "--fix", "width"], "write field=value"),
        (["search", "{tmp}/study.yaml", "--dry-run", "--cluster", "{tmp}/c.yaml"], "leave one out"),
        (["search", "{tmp}/large.yaml"], "goes up to 224 px"),
        (["search", "{tmp}/small.yaml"], "too small"),
        (["search", "{tmp}/weights.yaml"], "nowhere.pt"),
        (["status", "{tmp}/photos"], "not a run folder"),
        (["front", "{tmp}/nothing"], "there is no such run folder"),
        (["train", "{tmp}/bad_recipe.yaml", "--data", "{tmp}"], "epochs: 0 should be greater"),
        (["cost", "{tmp}/model.yaml"], "did you mean mobilenet_v2?"),
        (["data", "show", "{tmp}"], "is not prepared data"),
        (["data", "prepare", "{tmp}/nothing", "{tmp}/out"], "nothing"),
        (["data", "prepare", "torchvision:Nothing", "{tmp}/out"], "Nothing"),
        (["models", "show", "resnet19"], "did you mean resnet18?"),
        (["report", "{tmp}"], "not a run folder"),
        (["watch", "{tmp}/none"], "there is no such run folder"),
        (["dashboard", "{tmp}"], "not a run folder"),
        (["compare", "{tmp}/none"], "there is no such run folder"),
    ],
)
def test_mistakes_are_told_in_a_line_with_exit_code_2(
    flopwise, demo_data: ImageData, tmp_path: Path, words: list[str], message: str
):
    data = f"data: {{path: {demo_data.path}}}\n"
    files = {
        "bad.yaml": f"name: bad\n{data}space: quick\nbudget: {{trails: 3}}\n",
        "study.yaml": f"name: tiny\n{data}space: quick\n",
        "large.yaml": f"name: tiny\n{data}space: {{input_size: 224}}\n",
        "small.yaml": f"name: tiny\n{data}space: {{input_size: [32, 64]}}\n",
        "weights.yaml": f"name: tiny\n{data}space: {{weights: nowhere.pt, input_size: 48}}\n",
        "bad_recipe.yaml": "{epochs: 0}",
        "model.yaml": "{model: mobilenet_v_2}",
    }
    (tmp_path / "photos").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code, out, err = flopwise(*(word.format(tmp=tmp_path) for word in words))
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in out + err
    assert not (tmp_path / "runs").exists()


def test_a_foreign_package_named_spaces_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "__init__.py").write_text('"""Another one."""')
    code = "import sys; from search import cli; sys.argv = ['flopwise', '--help']; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert done.returncode == 2
    assert "not flopwise's" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_was_deleted_under_the_shell_is_told_in_a_line(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$1"; "$2" -m search.cli confirm runs/x', "sh", folder, sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "flopwise: the current folder can't be used (No such file or directory): change to another"
        " one\n"
    )


def test_the_version_is_told(flopwise):
    assert flopwise("--version")[:2] == (0, "flopwise 0.1.0\n")


def test_control_characters_of_names_do_not_reach_the_terminal(flopwise, tmp_path: Path):
    code, out, err = flopwise("status", tmp_path / "\x1b[2Jrun")
    assert code == 2
    assert err.startswith(f"flopwise: {tmp_path}/\\x1b[2Jrun: there is no such run folder")
    classes = ["\x1b]0;owned\x07cat", "dog\u202e"]
    data = write_data(tmp_path / "data", classes)
    code, out, err = flopwise("data", "show", data)
    assert code == 0, err
    assert "\\x1b]0;owned" in out
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", out)


def test_output_that_is_not_utf_8_lacks_characters_and_nothing_else(tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ROOT / "analysis" / "example", run)
    for encoding in ("ascii", "latin-1"):
        words = ["-m", "search.cli", "front", run]
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            check=False,
            env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"mobilenet_v2" in done.stdout
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "status", tmp_path / os.fsdecode(b"caf\xe9")],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )
    assert done.returncode == 2
    assert b"caf\\xe9: not a run folder" in done.stderr


def test_messages_are_bounded_and_keep_their_way_out():
    lines = short_lines("\n".join(["bad"] * 3000 + ["leave them out with --skip-bad"]))
    assert len(lines) == 21
    assert lines[-2:] == ["... 2,981 more lines", "leave them out with --skip-bad"]
    (line,) = short_lines(f"a: {'x' * 5000}; use 3")
    assert len(line) <= 600
    assert line.startswith("a: x")
    assert line.endswith("x; use 3")
    (line,) = short_lines("can't read s3://KEY:SECRET@bucket/x?token=SECRET&region=eu")
    assert line == "can't read s3://***@bucket/x?token=***&region=eu"


def write_data(path: Path, classes: list[str]) -> Path:
    """Prepared data of 20 images a class, 16 px."""
    with new_folder(path) as folder, DataWriter(folder, 16) as writer:
        for index in range(20 * len(classes)):
            image = np.full((16, 16, 3), index, dtype=np.uint8)
            writer.append(image, index % len(classes), f"{index}.png")
        writer.finish(
            name="made",
            classes=classes,
            synthetic=True,
            notes=(),
            validation=0.2,
            test=0.2,
            seed=0,
        )
    return path


def one_line(code: int, out: str, err: str) -> str:
    assert code == 2, out + err
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1
    assert len(err) < 700
    return err


def test_a_front_is_shown_where_the_run_can_not_be_written(flopwise, tmp_path: Path):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1), trial_row(1, 0.7, 0.2)])
    (run / "export").touch()
    code, out, err = flopwise("front", run)
    assert "baseline_cnn" in out
    assert "can't write" in one_line(code, "", err)
    assert flopwise("front", run, "--picture", tmp_path / "front.png")[0] == 0
    for picture in (tmp_path, tmp_path / "no" / "a.png"):
        one_line(*flopwise("front", run, "--picture", picture))


def test_a_recipe_is_exported_of_a_run_whose_study_lacks_lines(flopwise, tmp_path: Path):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    (run / "study.yaml").write_text("name: run")
    code, _, err = flopwise("export", run)
    assert code == 0, err
    assert (run / "export" / "trial-0.yaml").stat().st_size > 100
    (run / "study.yaml").write_text("{name: run, resources: {cpus: many}}")
    assert "resources: cpus: 'many' should be" in one_line(*flopwise("export", run))
    (run / "study.yaml").write_text("{name: run, resources: {cores: 1}}")
    assert "resources: cores: unknown" in one_line(*flopwise("export", run))
    (run / "study.yaml").write_text("name: run")
    assert "it is a folder; name a file" in one_line(*flopwise("export", run, "--out", tmp_path))
    line = one_line(*flopwise("export", run, "--out", "~nouser/x"))
    assert "home directory" in line


@pytest.mark.parametrize(
    "content", [b"{}\n", b"[1]\n", b"x\n{}\n", b'{"op_code": 99}\n', b"\xff\n"]
)
def test_damaged_journals_have_a_line(flopwise, tmp_path: Path, content: bytes):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    (run / "study.journal").write_bytes(content)
    with pytest.raises(UserError, match=r"study.journal: damaged \(") as caught:
        read_complete_trials(run)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"study.journal: damaged \("):
        open_study(run, "run")
    assert "damaged" in one_line(*flopwise("dashboard", run))


def test_what_a_killed_command_left_in_a_run_is_removed_and_told(flopwise, tmp_path, caplog):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    code = (
        "import os; from pathlib import Path; from spaces.files import whole_file\n"
        "with whole_file(Path('trials.parquet')) as partial:\n"
        "    partial.touch()\n    os.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", code]
    subprocess.run(words, cwd=run, env={"PYTHONPATH": str(ROOT)}, check=False)
    (left,) = run.glob(".*partial*")
    assert flopwise("status", run)[0] == 0
    assert not left.exists()
    assert caplog.messages == [f"removed {left}, which a killed process left"]


def test_wrong_words_have_a_line(flopwise, tmp_path: Path):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    recipe = tmp_path / "trial-1.yaml"
    recipe.write_text("{epochs: 1}")
    (tmp_path / "image.png").touch()
    for words, told in (
        (("models", "show", ""), "an argument is empty"),
        (("data", "prepare", "", tmp_path / "out"), "an argument is empty"),
        (("data", "prepare", "~nouser/x", tmp_path / "out"), "home directory"),
        (("data", "prepare", tmp_path, "~nouser/x"), "home directory"),
        (("data", "show", "~nouser/x"), "home directory"),
        (("status", "~nouser/x"), "home directory"),
        (("status", "s3://KEY:HIDDEN@bucket/x"), "s3://***@bucket/x: the address holds a key"),
        (("confirm", run, "--seeds", 10**9), "use 1,000 or fewer"),
        (("predict", recipe, tmp_path / "image.png"), "is a recipe, not a model"),
        (("cost", "/dev/zero"), "is a device, not a file"),
    ):
        assert told in one_line(*flopwise(*words))
    for words in (("data", "demo", tmp_path / "out"), ("search", tmp_path / "study.yaml")):
        code, _, err = flopwise(*words, "--seed", -1)
        assert code == 2
        assert "--seed" in err


def test_mistakes_are_told_before_ray_starts(flopwise, demo_data: ImageData, tmp_path: Path):
    typing = {"model": ["resnet19", "baseline_cnn"], "epochs": 0}
    path = write_study(tmp_path, demo_data, space=typing)
    code, _, err = flopwise("search", path)
    assert code == 2
    assert "epochs: 0 should be greater" in err
    assert "did you mean resnet18?" in err
    for space, told in (
        ({"input_size": 96}, "goes up to 96 px"),
        ({"input_size": 32}, "too small for the baseline CNN"),
        ({"model": "vit_b_16", "input_size": 50}, "takes multiples of 16 px"),
    ):
        path = write_study(tmp_path, demo_data, space=space)
        code = f"import sys; sys.argv = ['x', 'search', {str(path)!r}]; from search import cli\n"
        code += "try: cli.main()\nfinally: assert not {'ray', 'torch'} & set(sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": str(ROOT)},
        )
        assert told in one_line(done.returncode, done.stdout, done.stderr)


def test_a_run_is_not_confirmed_while_its_search_is_at_work(flopwise, tmp_path: Path):
    run = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    (run / "tune").mkdir()
    with run_lock(run).acquire():
        for words in (("confirm", run), ("ablate", run, "--trial", 0, "--against", "default")):
            assert "its search is still at work; wait until" in one_line(*flopwise(*words))


def test_an_address_without_a_network_is_told_in_a_line(
    flopwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(addresses, "_RETRY_SECONDS", 1)
    path = tmp_path / "study.yaml"
    address = "gs://anonymous@bucket/x?scheme=http&endpoint_override=127.0.0.1:1"
    path.write_text(f"{{name: tiny, data: {{path: '{address}'}}, space: quick}}")
    assert "can't read prepared data" in one_line(*flopwise("search", path))
    assert "can't read" in one_line(*flopwise("status", address))
