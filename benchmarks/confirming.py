"""How much a search promises too much, and what the ladder's first steps are worth.

    python benchmarks/confirming.py animals [OUT]
    python benchmarks/confirming.py ladder [OUT]

`animals`: a search of 24 trials on the photographs of ../shared/data/animals25 (64 to 96 px;
baseline CNN and MobileNetV2 from ImageNet weights, 2 to 4 epochs), then `flopwise confirm --top 4
--seeds 3`: the selection bias, measured. Says so and ends where photographs or weights are absent.

`ladder`: the first steps of the shipped ladder on generated images (24 classes, 48 px): baseline
CNN, batch size 16 to 64, batch norm, learning rate 1e-3 to 1e-4, 6 epochs, 3 seeds.

Everything goes through the `flopwise` command, into OUT (default: a new temporary folder); with the
same OUT, what is there already is not done again.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.images import ANIMALS, WEIGHTS
from comparison.searches import FLOPWISE

ANIMALS_STUDY = f"""\
name: animals25
data: {{path: data}}
budget: {{trials: 24}}
space:
  model: [baseline_cnn, mobilenet_v2]
  weights: {{fixed: "{WEIGHTS}", when: {{model: mobilenet_v2}}}}
  unfrozen: {{int: [0, 3], when: {{model: mobilenet_v2}}}}
  width: {{choices: [0.125, 0.25, 0.5], when: {{model: baseline_cnn}}}}
  batch_norm: {{choices: [false, true], when: {{model: baseline_cnn}}}}
  input_size: [64, 80, 96]
  batch_size: [16, 32, 64]
  optimizer: [adam, adamw, sgd]
  learning_rate: {{log: [3.0e-4, 1.0e-2]}}
  scheduler: [constant, cosine, onecycle]
  epochs: {{int: [2, 4]}}
"""
# The ladder's fourth recipe; `ablate` finds the steps to it by itself.
LADDER_STUDY = """\
name: ladder
data: {path: data}
budget: {trials: 1}
space: {input_size: 48, batch_size: 64, batch_norm: true, learning_rate: 1.0e-4, epochs: 6}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("which", choices=["animals", "ladder"])
    parser.add_argument("out", type=Path, nargs="?")
    arguments = parser.parse_args()
    out = (arguments.out or Path(tempfile.mkdtemp())).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.which == "animals":
        if not ANIMALS.is_dir() or not WEIGHTS.is_file():
            sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is absent")
        search(out, ["data", "prepare", ANIMALS, out / "data", "--size", "96"], ANIMALS_STUDY)
        flopwise("confirm", out / "runs" / "animals25", "--top", "4", "--seeds", "3")
    else:
        demo = ["data", "demo", out / "data", "--classes", "24", "--size", "48"]
        search(out, demo, LADDER_STUDY)
        flopwise("ablate", out / "runs" / "ladder", "--trial", "0", "--against", "ladder")


def search(out: Path, prepare: list[str | Path], study: str) -> None:
    """Prepare the data and run the study in out, or go on with it."""
    if not (out / "data").exists():
        flopwise(*prepare)
    begun = (out / "runs").exists()
    (out / "study.yaml").write_text(study)
    flopwise("search", out / "study.yaml", *(["--resume"] if begun else []))


def flopwise(*words: str | Path) -> None:
    subprocess.run([FLOPWISE, *words], check=True)


if __name__ == "__main__":
    main()
