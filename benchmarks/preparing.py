"""Time and memory of `prepare`, beside those of another checkout of flopwise.

    python benchmarks/preparing.py [--against CHECKOUT] [--copies 1 4] [--repeat 3]

The photographs of ../shared/data/animals25 (3,000 JPEGs of 224 px), and so many times as many:
each one mirrored, turned and both, saved as JPEGs of quality 90, so that these are other images.
They are decoded to 224 px with all cores. Checkouts take turns, each time in a process of its own,
which reads the files once before the clock starts. Seconds are of the call of `prepare`, medians of
--repeat; memory is the largest resident set of the process in MB of 1e6 bytes, its imports
included.

Small JPEGs are the worst case for hashing: larger photographs take longer to decode, and no longer
to hash. Not covered: disks that are slow to read. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from comparison.images import ANIMALS
from PIL import Image
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
TURNS = (None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
         Image.Transpose.FLIP_TOP_BOTTOM)  # fmt: skip
MEASURE = """
import json, re, sys, time
from pathlib import Path
from trainables.prepare import prepare

source, out = sys.argv[1:]
for file in Path(source).rglob("*.jpg"):
    file.read_bytes()
started = time.perf_counter()
prepare(source, Path(out))
seconds = time.perf_counter() - started
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([seconds, int(peak) * 1024 / 1e6]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of prepare.")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4], choices=(1, 2, 3, 4))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if not ANIMALS.exists():
        sys.exit(f"skipped: {ANIMALS} is not there")
    checkouts = [ROOT, *([options.against.resolve()] if options.against else [])]
    table = Table("photographs", "code", "seconds", "all seconds", "times", "MB", box=None)
    with tempfile.TemporaryDirectory() as folder:
        for copies in options.copies:
            source = write_photographs(Path(folder) / f"photographs-{copies}", copies)
            figures: dict[Path, list[tuple[float, float]]] = {one: [] for one in checkouts}
            for number in range(options.repeat):
                for checkout in checkouts[:: 1 if number % 2 else -1]:
                    out = Path(folder) / f"out-{copies}-{number}-{checkouts.index(checkout)}"
                    figures[checkout].append(measure(checkout, source, out))
            others = [seconds for seconds, _ in figures[checkouts[-1]]]
            for checkout, found in figures.items():
                seconds = [each for each, _ in found]
                table.add_row(
                    f"{3000 * copies:,}",
                    "this" if checkout == ROOT else checkout.name,
                    f"{statistics.median(seconds):.2f}",
                    " ".join(f"{each:.2f}" for each in seconds),
                    f"{statistics.median(seconds) / statistics.median(others):.2f}",
                    f"{statistics.median(peak for _, peak in found):.0f}",
                )
    Console(width=110).print(table)


def write_photographs(folder: Path, copies: int) -> Path:
    """Class folders with so many times the photographs; returns folder."""
    for file in sorted(ANIMALS.rglob("*.jpg")):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(file) as photograph:
            for number, turn in enumerate(TURNS[:copies]):
                target = folder / file.parent.name / f"{file.stem}-{number}.jpg"
                if turn is None:
                    target.write_bytes(file.read_bytes())
                else:
                    photograph.transpose(turn).save(target, quality=90)
    return folder


def measure(checkout: Path, source: Path, out: Path) -> tuple[float, float]:
    """Seconds, and MB at most, of one prepare."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(out)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


if __name__ == "__main__":
    main()
