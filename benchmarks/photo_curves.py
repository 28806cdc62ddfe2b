"""Records benchmarks/photo_curves: full learning curves on real photographs, for replays.

    python benchmarks/photo_curves.py --out OUT    # hours; the same command goes on after a break

Needs ../shared/data/animals25 (class folders of JPEGs) and ../shared/weights, a MobileNetV2 with
ImageNet weights, beside this checkout; says so and ends where they are absent. 112 recipes are
drawn at random: 76 of MobileNetV2 from those weights with its last 0 to 8 blocks trained, and 36 of
the baseline CNN, at 64 to 224 px. 36 and 12 of these are trained with quantisation too. Each has 8
epochs, and none is stopped. With one worker and one thread, an epoch's seconds do not depend on a
neighbour; run nothing else on that core. OUT keeps the run, and its tables replace
benchmarks/photo_curves.
"""

import argparse
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from comparison.images import ANIMALS, WEIGHTS
from comparison.searches import FLOPWISE
from comparison.shipping import ship

from spaces.recipe import Recipe
from spaces.space_file import parse_space
from spaces.suggesters import RandomTrial
from spaces.yaml_files import write_yaml

TABLE = Path(__file__).with_name("photo_curves")
# Model -> how many recipes are drawn, and how many of these are also trained with quantisation.
NUM_RECIPES = {"mobilenet_v2": (76, 36), "baseline_cnn": (36, 12)}
SPACE = {
    "model": list(NUM_RECIPES),
    "weights": {"fixed": str(WEIGHTS), "when": {"model": "mobilenet_v2"}},
    "unfrozen": {"int": [0, 8], "when": {"model": "mobilenet_v2"}},
    "width": {"choices": [0.125, 0.25, 0.5], "when": {"model": "baseline_cnn"}},
    "batch_norm": {"choices": [False, True], "when": {"model": "baseline_cnn"}},
    "qat": [False, True],
    "input_size": [64, 96, 128, 160, 192, 224],
    "batch_size": [16, 32, 64],
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"log": [1e-4, 3e-2]},
    "scheduler": ["constant", "cosine"],
    "epochs": 8,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning curves on photographs.")
    parser.add_argument("--out", type=Path, required=True, help="Kept, to go on after a break.")
    out = parser.parse_args().out.resolve()
    if not ANIMALS.is_dir() or not WEIGHTS.is_file():
        sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is absent")
    if not (out / "data").is_dir():
        shares = ["--validation", "0.2", "--test", "0.4"]
        subprocess.run([FLOPWISE, "data", "prepare", ANIMALS, out / "data", *shares], check=True)
    study, run = out / "study.yaml", out / "runs" / "photo_curves"
    study.write_text(write_yaml(make_study()))
    resume = ["--resume"] if run.is_dir() else []
    subprocess.run([FLOPWISE, "search", study, *resume], check=True)
    ship(run, TABLE)


def make_study() -> dict[str, Any]:
    """A study that trains the drawn recipes in random order, each to its end."""
    space = parse_space(SPACE, name="photo_curves", source="photo_curves", folder=TABLE, seed=0)
    trial = RandomTrial(seed=0)
    recipes: list[Recipe] = []
    for model, (num_drawn, num_quantised) in NUM_RECIPES.items():
        drawn: list[Recipe] = []
        while len(drawn) < num_drawn:
            recipe = space.suggest(trial)
            if recipe.model == model:
                drawn.append(recipe.replace(qat=False))
        recipes += drawn
        recipes += [recipe.replace(qat=True) for recipe in drawn[:num_quantised]]
    random.Random(0).shuffle(recipes)
    return {
        "name": TABLE.name,
        "data": {"path": "data"},
        "space": {**SPACE, "enqueue": [recipe.to_dict() for recipe in recipes]},
        "sampler": {"name": "random"},
        "early_stopping": {"name": "none"},
        "budget": {"trials": len(recipes)},
        "dominated": "keep",
    }


if __name__ == "__main__":
    main()
