"""Memory that a process holds after each of ten quantisation-aware trainings, one after another.

    python benchmarks/qat_memory.py [--trainings 10]

As in a worker that stays warm: MobileNetV3-Small at 64 px on generated images, three epochs each,
two of them in int8, the last one with its ONNX file. Linux only: the resident set, from /proc.
"""

import argparse
import gc
import tempfile
from pathlib import Path

import torch

from spaces.recipe import recipe_from
from trainables.data.demo_images import make_demo
from trainables.inputs.device_cache import forget_images
from trainables.system.host_memory import give_back_memory, keep_freed_memory
from trainables.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainings", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data = make_demo(Path(folder) / "demo", classes=4, size=64)
        held = []
        for seed in range(options.trainings):
            recipe = recipe_from(
                {
                    **{"model": "mobilenet_v3_small", "input_size": 64, "seed": seed},
                    **{"epochs": 3, "qat": True, "float_epochs": 1, "batch_size": 32},
                }
            )
            train(recipe, data, lambda _: None, device=torch.device("cpu"))
            forget_images()
            gc.collect()
            give_back_memory()
            held.append(_resident_mb())
            print(f"after training {seed + 1}: {held[-1]:,.0f} MB", flush=True)
    later = held[len(held) // 2 :]
    growth = (later[-1] - later[0]) / max(1, len(later) - 1)
    print(f"growth in the second half: {growth:+.1f} MB per training")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
