"""The search whose front the README shows: 40 trials on 3,000 photographs of 25 kinds of animal.

    python benchmarks/animals25.py [--out OUT] [--ship]

Needs ../shared/data/animals25 (class folders of JPEGs) and ../shared/weights, a MobileNetV2 with
ImageNet weights, beside this checkout; says so and ends where they are absent. MobileNetV2
from those weights, float and int8, and the baseline CNN, at 64 to 224 px, at most 6 epochs. Part of
the photographs are ImageNet's, so accuracies from these weights flatter. Everything goes through
the `flopwise` command, into OUT (default: a new temporary folder), the report at the end.

--ship: puts its tables where the notebook finds them, with the paths of this machine cut off.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.images import ANIMALS, WEIGHTS

STUDY = """\
name: animals25
data: {{path: data}}
budget: {{trials: 16}}
space:
  model: [baseline_cnn, mobilenet_v2, mobilenet_v3_small]
  weights: {{fixed: "{weights}", when: {{model: mobilenet_v2}}}}
  unfrozen: {{int: [0, 4], when: {{model: mobilenet_v2}}}}
  width: {{choices: [0.125, 0.25], when: {{model: baseline_cnn}}}}
  batch_norm: {{choices: [false, true], when: {{model: baseline_cnn}}}}
  input_size: [96, 160, 224]
  batch_size: [16, 32, 64]
  optimizer: [adam, adamw, sgd]
  learning_rate: {{log: [3.0e-4, 1.0e-2]}}
  scheduler: [constant, cosine, onecycle]
  epochs: {{int: [2, 4]}}
"""


def main() -> None:
    if not ANIMALS.is_dir() or not WEIGHTS.is_file():
        sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is absent")
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.yaml").write_text(STUDY.format(weights=WEIGHTS))
    flopwise = Path(sys.executable).with_name("flopwise")
    subprocess.run(
        [flopwise, "data", "prepare", ANIMALS, out / "data", "--size", "224"], check=True
    )
    subprocess.run([flopwise, "search", out / "study.yaml"], check=True)


if __name__ == "__main__":
    main()
