"""The search whose front the README shows: 40 trials on 3,000 photographs of 25 kinds of animal.

    python benchmarks/animals25.py [--out OUT] [--ship]

Needs ../shared/data/animals25 (class folders of JPEGs) and ../shared/weights, a MobileNetV2 with
ImageNet weights, beside this checkout; says so and ends where they are absent. MobileNetV2
from those weights, float and int8, and the baseline CNN, at 64 to 224 px, at most 6 epochs. Part of
the photographs are ImageNet's, so accuracies from these weights flatter. Everything goes through
the `flopwise` command, into OUT (default: a new temporary folder), the report at the end.

--ship: puts its tables where the notebook finds them, with the paths of this machine cut off.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.images import ANIMALS, WEIGHTS
from comparison.searches import FLOPWISE
from comparison.shipping import ship

STUDY = """\
name: animals25
data: {{path: data}}
budget: {{trials: 40}}
space:
  model: [baseline_cnn, mobilenet_v2]
  weights: {{fixed: "{weights}", when: {{model: mobilenet_v2}}}}
  unfrozen: {{int: [0, 4], when: {{model: mobilenet_v2}}}}
  qat: [false, true]
  width: {{choices: [0.125, 0.25, 0.5], when: {{model: baseline_cnn}}}}
  batch_norm: {{choices: [false, true], when: {{model: baseline_cnn}}}}
  input_size: [64, 96, 128, 160]
  batch_size: [16, 32, 64]
  optimizer: [adam, adamw, sgd]
  learning_rate: {{log: [3.0e-4, 1.0e-2]}}
  scheduler: [constant, cosine, onecycle]
  epochs: 6
"""
EXAMPLE = Path(__file__).parents[1] / "analysis" / "example"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--ship", action="store_true")
    options = parser.parse_args()
    if not ANIMALS.is_dir() or not WEIGHTS.is_file():
        sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is absent")
    out = Path(options.out or tempfile.mkdtemp()).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.yaml").write_text(STUDY.format(weights=WEIGHTS))
    subprocess.run(
        [FLOPWISE, "data", "prepare", ANIMALS, out / "data", "--size", "224"], check=True
    )
    subprocess.run([FLOPWISE, "search", out / "study.yaml"], check=True)
    run = out / "runs" / "animals25"
    subprocess.run([FLOPWISE, "report", run], check=True)
    if options.ship:
        ship(run, EXAMPLE)


if __name__ == "__main__":
    main()
