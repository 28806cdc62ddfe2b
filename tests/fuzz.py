"""Damages valid inputs at random, gives them to the commands, and checks how they are refused.

    python tests/fuzz.py --inputs 2000 --seed 0      # as `make fuzz` does
    python tests/fuzz.py --only 0:417                # one input again, with its traceback

Inputs are study files, spaces, recipes, images, prepared data, run folders and ONNX files. A
command must end with exit code 0 or 2 within 10 seconds and 2 GB, without a traceback, and in at
most 21 short lines. Nothing is trained, and no Ray is started.
"""

import argparse
import contextlib
import copy
import faulthandler
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 10
MOST_BYTES = 2 * 10**9
MOST_LINES, LONGEST_LINE = 21, 700
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
Mutation = Callable[[random.Random, Any], Any]

STUDY: dict[str, Any] = {
    "name": "tiny",
    "data": {"path": "data"},
    "space": {
        "model": ["baseline_cnn", "mobilenet_v2"],
        "input_size": {"int": [48, 64], "step": 16},
        "width": {"choices": [0.5, 1.0], "when": {"model": "baseline_cnn"}},
        "learning_rate": {"log": [0.001, 0.01]},
        "epochs": 3,
    },
    "objectives": {"accuracy": "max", "gflops": "min"},
    "sampler": {"name": "tpe"},
    "early_stopping": {"name": "pareto", "reduction": 2},
    "budget": {"trials": 4, "hours": 1.5, "plateau": {"trials": 3, "gain": 0.1}},
    "resources": {"cpus": 1, "gpus": 0},
    "prices": {"currency": "USD", "per_hour": {"cpu": 0.05}},
    "storage": "runs",
    "constraints": {"gflops": "<= 0.5"},
    "seed": 3,
}
RECIPE: dict[str, Any] = {
    "model": "baseline_cnn",
    "input_size": 48,
    "width": 0.25,
    "batch_norm": True,
    "batch_size": 16,
    "learning_rate": 0.001,
    "epochs": 2,
    "numbers": {"accuracy": 0.5},
}
# Written in place of a value. Functions get the random generator.
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3.5,
        -0.0,
        2**31,
        2**63,
        2**64,
        10**400,
        -(10**30),
        1e308,
        1e-320,
    ),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "x",
        "x" * 5000,
        "\x1b[31mred",
        "a\nb",
        "\ud83d",
        "\x00",
    ),
    *(
        "../../../etc/passwd",
        "/dev/zero",
        "/dev/full",
        "~nouser/x",
        "s3://K:S@b/x",
        "gs//",
        "s3://[",
    ),
    *("é" * 300, "1:30", "010", "=1+1", "{{x}}", "%s%n", "[old]", "🙂", "nan", "trials", "auto"),
    *([], {}, [None], [[]], {"": 1}, [1, "a", None], {"a": {"b": {"c": []}}}, [0] * 3000),
    {f"key{number}": number for number in range(3000)},
]
RAW = [
    *(
        "on",
        "no",
        "1:30",
        "0x1f",
        "1_000",
        "08",
        "!!binary aGk=",
        "!!set {a}",
        "&a [*a]",
        "*nothing",
    ),
    *("!!python/object/apply:os.system [ls]", '"\\ud800"', "<<: 3", "? [a]", "- b", "{", "]" * 9),
    *(
        "[" * 500,
        "\t- x",
        "%YAML 9.9",
        "--- 1",
        "...",
        "|\n  x",
        "2024-13-45",
        "@",
        "`",
        "!!float x",
    ),
]


# Structure: mappings, lists and values.


def mutate(rng: random.Random, content: Any) -> Any:
    """Change one to three places of plain data."""
    content = json.loads(json.dumps(content)) if _is_json(content) else content
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _mutate_once(rng, content)
    return content


def _mutate_once(rng: random.Random, content: Any) -> Any:
    deeper = isinstance(content, dict | list) and content and rng.random() < 0.8
    if not deeper:
        return copy.deepcopy(rng.choice(([content], {"x": content}, str(content), *ODD)))
    if isinstance(content, dict):
        key = rng.choice(list(content))
        way = rng.random()
        if way < 0.1:
            content.pop(key)
        elif way < 0.2:
            content[rng.choice((str(key)[:-1], f"{key}s", "x", "", "\x1b[2J", "k" * 3000))] = (
                content.pop(key)
            )
        elif way < 0.25:
            content[rng.choice(("extra", "name", "when", "trials"))] = copy.deepcopy(
                rng.choice(ODD)
            )
        else:
            content[key] = _mutate_once(rng, content[key])
        return content
    index = rng.randrange(len(content))
    way = rng.random()
    if way < 0.15:
        del content[index]
    elif way < 0.3:
        content.insert(index, copy.deepcopy(content[index]))
    else:
        content[index] = _mutate_once(rng, content[index])
    return content


def _is_json(content: Any) -> bool:
    try:
        json.dumps(content)
    except (TypeError, ValueError):
        return False
    return True


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, insert, repeat or clear some bytes."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(out)) if out else 0
        way = rng.randrange(6)
        if way == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1 and out:
            out[at] = rng.choice((0, 255, 127, 128, 10, 27))
        elif way == 2:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        elif way == 3:
            del out[at : at + rng.choice((1, 4, 100, len(out)))]
        elif way == 4:
            out[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, (2**62).to_bytes(8, "little")))
        else:
            out[at:at] = out[at : at + rng.choice((1, 50, 1000))]
    return bytes(out)


def damage_file(rng: random.Random, path: Path) -> None:
    """Put something else in the place of a file, or damage its bytes."""
    way = rng.random()
    if way > 0.2:
        path.write_bytes(damage_bytes(rng, path.read_bytes()))
        return
    content = path.read_bytes()
    path.unlink()
    kind = rng.choice(("missing", "empty", "folder", "pipe", "loop", "zero", "socketless", "large"))
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "zero":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/random")))
    elif kind == "socketless":
        path.symlink_to("nowhere")
    elif kind == "large":
        path.write_bytes(content)
        os.truncate(path, 3 * 10**9)


def yaml_text(rng: random.Random, content: Any) -> str:
    """A mutated YAML file: of changed values, of changed text, or with something raw in it."""
    way = rng.random()
    if way < 0.6:
        return yaml.safe_dump(mutate(rng, content), sort_keys=False, allow_unicode=True)
    text = yaml.safe_dump(content, sort_keys=False)
    if way < 0.85:
        lines = text.splitlines()
        index = rng.randrange(len(lines))
        name = lines[index].partition(":")[0]
        lines[index] = rng.choice(
            (f"{name}: {rng.choice(RAW)}", rng.choice(RAW), f"  {lines[index]}")
        )
        return "\n".join(lines)
    if way < 0.9:
        grown = [
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, rng.randrange(2, 30))
        ]
        return "\n".join(["a0: &a0 [x, x]", *grown, text])
    return ""  # then the bytes are damaged


def write_yaml_file(rng: random.Random, path: Path, content: Any) -> None:
    text = yaml_text(rng, content)
    if text:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    else:
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        damage_file(rng, path)


def mutate_table(rng: random.Random, table: pd.DataFrame) -> pa.Table:
    """A table with other types, values, columns or rows."""
    table = table.copy()
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(table.columns)) if len(table.columns) else "trial"
        way = rng.randrange(7)
        if way == 0:
            table = table.drop(columns=name, errors="ignore")
        elif way == 1 and name in table:
            table[name] = table[name].map(repr)
        elif way == 2:
            table[name] = rng.choice(
                (None, "x", 3.5, -1, True, "\x1b[2J", 1e300, float("nan"), 2**40)
            )
        elif way == 3:
            table[name] = pd.Series([[1, 2]] * len(table), index=table.index)
        elif way == 4 and name in table and len(table):
            column = table[name].astype(object)
            column.iloc[rng.randrange(len(table))] = rng.choice(
                (None, float("inf"), float("nan"), -1, 10**12)
            )
            with contextlib.suppress(ValueError, TypeError):
                table[name] = column.infer_objects()
        elif way == 5:
            table = (
                table.iloc[: rng.choice((0, 1))] if rng.random() < 0.5 else pd.concat([table] * 2)
            )
        else:
            table[name] = pd.Series(pd.to_datetime(["2024-01-01"] * len(table)), index=table.index)
    try:
        return pa.Table.from_pandas(table, preserve_index=False)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.table({"trial": [1]})


# Valid inputs, made once.


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A folder with one valid input of each kind."""

    folder: Path


def make_valid(folder: Path) -> Valid:
    """Prepared data, a run folder with a journal, an ONNX file, and an image."""
    from trainables.data.writing import DataWriter, new_folder
    from trainables.inference.onnx_model import METADATA_KEY, About

    rng = np.random.default_rng(0)
    with new_folder(folder / "data") as partial, DataWriter(partial, 64) as writer:
        for index in range(30):
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            writer.append(image, index % 3, f"{index}.png")
        writer.finish(
            name="made", classes=["cat", "dog", "emu"], synthetic=False, notes=["a note"],
            validation=0.2, test=0.2, seed=0,
        )  # fmt: skip
    for suffix in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(
            folder / f"image.{suffix}"
        )
    Image.fromarray(rng.integers(0, 4000, (40, 50)).astype(np.uint16)).save(folder / "grey.png")
    about = About(
        classes=("cat", "dog", "emu"), input_size=48, prepared_size=64, mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2), accuracy=0.9, recipe={"model": "baseline_cnn"},
        versions={"torch": "2"},
    )  # fmt: skip
    write_model(folder / "model.onnx", {METADATA_KEY: about.to_json()})
    shutil.copytree(ROOT / "analysis" / "example", folder / "run")
    (folder / "run" / "tune").mkdir()
    write_journal(folder / "run")
    return Valid(folder=folder)


def write_model(path: Path, metadata: dict[str, str]) -> None:
    """A model that averages the image, and has three outputs."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
        ],
        "model",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 48, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))


def write_journal(run: Path) -> None:
    """A journal of two trials, as a search writes it."""
    import optuna

    from search.decisions.trial_record import COST, OUTCOME, RECIPE
    from search.storage.optuna_storage import create_study
    from spaces.recipe import Recipe

    directions = [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    study = create_study(run, "animals25", directions)
    for number in range(2):
        trial = study.ask({"learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-1)})
        epoch = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "accuracy"), 0.5)
        trial.set_user_attr(RECIPE, Recipe(seed=number).to_dict())
        trial.set_user_attr(COST, {"gmacs": 0.5, "gflops": 1.0, "effective_gflops": 1.0})
        trial.set_user_attr(
            OUTCOME,
            {
                **dict.fromkeys(("error", "stop_reason", "checkpoint", "reused", "ran_on")),
                "state": "COMPLETE",
                "accuracy": 0.5,
                "epochs": [{**epoch, "epoch": 1, "learning_rate": 0.1, "seconds": 1.0}],
            },
        )
        study.tell(trial, [0.5, 1.0])


# Kinds of inputs. Each takes the valid ones, makes a damaged one, and returns the command's words.


def fuzz_study(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    (folder / "data").symlink_to(valid.folder / "data")
    write_yaml_file(rng, folder / "study.yaml", STUDY)
    # A valid study then has no run to resume, so that no search begins.
    return ["search", str(folder / "study.yaml"), "--resume"]


def fuzz_space(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    (folder / "data").symlink_to(valid.folder / "data")
    write_yaml_file(rng, folder / "space.yaml", {**STUDY["space"], "enqueue": [{"epochs": 1}]})
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "space": "space.yaml"}))
    words = ["search", str(folder / "study.yaml"), "--resume"]
    if rng.random() < 0.2:
        words += ["--fix", f"{rng.choice(('width', 'epochs', 'x'))}={rng.choice(RAW)}"]
    return words


def fuzz_recipe(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    write_yaml_file(rng, folder / "recipe.yaml", RECIPE)
    return ["cost", str(folder / "recipe.yaml")]


def fuzz_image(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    names = (
        "image.png",
        "image.jpg",
        "image.gif",
        "image.webp",
        "image.tif",
        "image.bmp",
        "grey.png",
    )
    path = folder / rng.choice(names)
    shutil.copy(valid.folder / path.name, path)
    damage_file(rng, path)
    if rng.random() < 0.1:
        Image.new("1", (1, rng.choice((10**5, 10**6)))).save(path.with_suffix(".png"))
        path = path.with_suffix(".png")
    return ["predict", str(valid.folder / "model.onnx"), str(rng.choice((path, folder)))]


def fuzz_data(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    data = folder / "data"
    shutil.copytree(valid.folder / "data", data)
    way = rng.random()
    if way < 0.4:
        about = json.loads((data / "data.json").read_text())
        text = json.dumps(mutate(rng, about))
        (data / "data.json").write_text(text, encoding="utf-8")
    elif way < 0.7:
        rows = pa.ipc.open_file(data / "rows.arrow").read_all().to_pandas()
        table = mutate_table(rng, rows)
        with pa.ipc.new_file(data / "rows.arrow", table.schema) as sink:
            sink.write_table(table)
    else:
        damage_file(rng, data / rng.choice(("data.json", "rows.arrow", "pixels.arrow")))
    if rng.random() < 0.5:
        return ["evaluate", str(valid.folder / "model.onnx"), str(data)]
    return ["data", "show", str(data), "--picture", str(folder / "classes.png")]


def fuzz_run(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    run = folder / "run"
    shutil.copytree(valid.folder / "run", run)
    way = rng.random()
    if way < 0.25:
        content = yaml.safe_load((run / "study.yaml").read_text())
        write_yaml_file(rng, run / "study.yaml", content)
    elif way < 0.65:
        name = rng.choice(("trials.parquet", "trials.parquet", "epochs.parquet"))
        table = mutate_table(rng, pd.read_parquet(run / name))
        pq.write_table(table, run / name)
    elif way < 0.75:
        damage_file(rng, run / rng.choice(("trials.parquet", "epochs.parquet", "study.yaml")))
    else:
        return _fuzz_journal(rng, run)
    words = rng.choice(
        (
            ["status", str(run)],
            ["status", str(run), "--json"],
            ["front", str(run)],
            ["front", str(run), "--json"],
            ["watch", str(run)],
            ["compare", str(run), str(valid.folder / "run"), "--picture", str(folder / "c.png")],
            ["export", str(run), "--pick", rng.choice(("knee", "cheapest", "drop<=1%", "3"))],
            [
                "replay",
                str(run),
                "--trials",
                "5",
                "--seeds",
                "1",
                "--picture",
                str(folder / "r.png"),
            ],
            ["confirm", str(run)],
            ["ablate", str(run), "--trial", "knee", "--against", "default"],
        )
    )
    if rng.random() < 0.05:
        words = ["report", str(run), "--no-latency"]  # which takes 10 s per model
    return words


def _fuzz_journal(rng: random.Random, run: Path) -> list[str]:
    journal = run / "study.journal"
    lines = journal.read_text().splitlines()
    if rng.random() < 0.7:
        index = rng.randrange(len(lines))
        lines[index] = json.dumps(mutate(rng, json.loads(lines[index])))
        journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        damage_file(rng, journal)
    return ["journal", str(run)]


def fuzz_onnx(rng: random.Random, valid: Valid, folder: Path) -> list[str]:
    path = folder / "model.onnx"
    shutil.copy(valid.folder / "model.onnx", path)
    if rng.random() < 0.6:
        import onnx

        model = onnx.load(str(path))
        about = json.loads(model.metadata_props[0].value)
        text = json.dumps(mutate(rng, about))
        if rng.random() < 0.2:
            text = damage_bytes(rng, text.encode()).decode("utf-8", "replace")
        write_model(path, {model.metadata_props[0].key: text})
    else:
        damage_file(rng, path)
    if rng.random() < 0.3:
        return ["evaluate", str(path), str(valid.folder / "data")]
    return ["predict", str(path), str(valid.folder / "image.png")]


KINDS: dict[str, Callable[[random.Random, Valid, Path], list[str]]] = {
    "study": fuzz_study,
    "space": fuzz_space,
    "recipe": fuzz_recipe,
    "image": fuzz_image,
    "data": fuzz_data,
    "run": fuzz_run,
    "onnx": fuzz_onnx,
}


# Running one input, and all of them.


class _TookTooLongError(BaseException):
    """Raised by the alarm."""


def run_command(words: list[str]) -> tuple[int, str, str]:
    """Run a command in this process: exit code, standard output, standard error."""
    from search import cli

    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = ["flopwise", *words]
        try:
            if words[0] == "journal":
                code = _read_journal(Path(words[1]))
            else:
                cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        except _TookTooLongError:
            raise
        except BaseException:
            traceback.print_exc()
            code = 1
        out.flush()
        err.flush()
    texts = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))  # pyright: ignore[reportAttributeAccessIssue]
    text_out, text_err = texts
    return code, text_out, text_err


def _read_journal(run: Path) -> int:
    """Read a journal as `dashboard`, `warm_start` and `--resume` do."""
    from search.storage.warm_start import read_complete_trials
    from spaces.errors import UserError

    try:
        read_complete_trials(run)
    except UserError as error:
        sys.stderr.write(f"flopwise: {error}\n")
        return 2
    return 0


def faults_of(code: int, out: str, err: str, seconds: float) -> list[str]:
    """What is wrong with the way in which a command ended."""
    faults = []
    lines = err.splitlines()
    if "Traceback" in out + err or code not in (0, 2):
        faults.append(f"exit code {code}, traceback")
    if code == 2 and not lines:
        faults.append("no line")
    if len(lines) > MOST_LINES:
        faults.append(f"{len(lines)} lines")
    if any(len(line) > LONGEST_LINE for line in lines):
        faults.append(f"a line of {max(map(len, lines))} characters")
    if _CONTROL.search(out + err):
        faults.append("control characters")
    if seconds > MOST_SECONDS:
        faults.append(f"{seconds:.0f} s")
    return faults


def run_one(seed: int, index: int, valid: Valid) -> tuple[str, list[str], str]:
    """Make and run one input: its kind, its faults, and what it printed."""
    rng = random.Random(f"{seed}:{index}")
    kind = list(KINDS)[index % len(KINDS)]
    with tempfile.TemporaryDirectory() as name:
        words = KINDS[kind](rng, valid, Path(name))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()  # other work on the machine does not count
        signal.alarm(5 * MOST_SECONDS)
        try:
            code, out, err = run_command(words)
        except _TookTooLongError:
            return kind, ["hangs"], " ".join(words)
        finally:
            signal.alarm(0)
        faults = faults_of(code, out, err, time.process_time() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if 1024 * peak > MOST_BYTES and peak > 1.1 * before:
            faults.append(f"{peak / 1e6:.1f} GB")
        if set(valid.folder.iterdir()) != _VALID_NAMES:
            faults.append("writes beside its input")
    return kind, faults, f"{' '.join(words)}\n[{code}] {out[-300:] if faults else ''}\n{err}"


_VALID_NAMES: set[Path] = set()


def work(seed: int, indices: list[int], report: Path, *, show: bool) -> None:
    """Run inputs in this process, and append a line of JSON for each to a file."""

    def too_long(*_: object) -> None:
        raise _TookTooLongError

    import search.study.preflight  # takes seconds, of which no input is to blame  # noqa: F401
    import trainables.cost  # noqa: F401

    faulthandler.enable()
    signal.signal(signal.SIGALRM, too_long)
    with tempfile.TemporaryDirectory() as name, report.open("a") as file:
        os.environ["FLOPWISE_CACHE"] = str(Path(name) / "cache")
        (Path(name) / "valid").mkdir()
        valid = make_valid(Path(name) / "valid")
        _VALID_NAMES.update(valid.folder.iterdir())
        for index in indices:
            file.write(json.dumps({"begun": index}) + "\n")
            file.flush()
            faulthandler.dump_traceback_later(8 * MOST_SECONDS, exit=True)
            kind, faults, printed = run_one(seed, index, valid)
            faulthandler.cancel_dump_traceback_later()
            line = {"index": index, "kind": kind, "faults": faults}
            if faults or show:
                line["printed"] = printed
            file.write(json.dumps(line) + "\n")
            file.flush()


def fuzz(inputs: int, seed: int, *, show: bool = False, first: int = 0) -> list[dict[str, Any]]:
    """Run inputs in a process that begins anew if one ends it. Returns a line for each input."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.jsonl"
        report.touch()
        rest = list(range(first, first + inputs))
        while rest:
            words = [str(ROOT / "tests" / "fuzz.py"), "--work", str(report), "--seed", str(seed)]
            words += ["--show"] * show
            subprocess.run(
                [sys.executable, *words],
                input=json.dumps(rest),
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            )
            lines = [json.loads(line) for line in report.read_text().splitlines()]
            begun = [line["begun"] for line in lines if "begun" in line]
            done = {line["index"] for line in lines if "index" in line}
            if not begun:
                raise RuntimeError("the process ended before its first input")
            if begun[-1] not in done:
                with report.open("a") as file:
                    fault = {"index": begun[-1], "kind": "", "faults": ["ends the process"]}
                    file.write(json.dumps({**fault, "printed": ""}) + "\n")
                done.add(begun[-1])
            rest = [index for index in rest if index not in done]
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        return [line for line in lines if "index" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="SEED:INDEX", help="run one input again")
    parser.add_argument("--show", action="store_true", help="print what every input printed")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.seed, json.load(sys.stdin), options.work, show=options.show)
        return
    started = time.monotonic()
    if options.only:
        seed, index = map(int, options.only.split(":"))
        lines = fuzz(1, seed, show=True, first=index)
    else:
        seed = options.seed
        lines = fuzz(options.inputs, seed, show=options.show)
    for line in lines:
        if line.get("printed") is not None:
            print(f"{seed}:{line['index']} {line['kind']}: {', '.join(line['faults']) or 'fine'}")
            print("  " + line["printed"].strip().replace("\n", "\n  "))
    bad = [line for line in lines if line["faults"]]
    print(f"{len(lines)} inputs, {len(bad)} with faults, {time.monotonic() - started:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
