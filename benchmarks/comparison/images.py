"""The same images for everybody: flopwise's prepared split, and the folder that peers read.

flopwise prepares class folders of JPEGs, as any user's; the peers get train/ and validation/ with
links to the same JPEGs. Generated images are written as JPEGs first, so that both decode them.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from PIL import Image

from trainables.data.dataset import ImageData, read_sources
from trainables.data.demo_images import make_demo
from trainables.data.splits import SPLITS

SHARED = Path(__file__).resolve().parents[3] / "shared"
ANIMALS = SHARED / "data" / "animals25"
WEIGHTS = SHARED / "weights" / "mobilenet_v2_features_imagenet.pt"
_QUALITY = 92


def write_generated(folder: Path, *, classes: int, size: int) -> Path:
    """Write generated images as class folders of JPEGs, unless they are there; return folder."""
    if folder.exists():
        return folder
    drawn = folder.with_name(f"{folder.name}-drawn")
    shutil.rmtree(drawn, ignore_errors=True)
    data = make_demo(drawn, classes=classes, size=size)
    partial = folder.with_name(f"{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    for row, source in enumerate(read_sources(data.path)):
        file = partial / f"{source}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.pixels.take([row])[0]).save(file, quality=_QUALITY)
    shutil.rmtree(drawn)
    return partial.rename(folder)


def link_split(source: Path, data: ImageData, folder: Path) -> Path:
    """Make a folder for ImageFolder, train/ and validation/ of prepared data; return it."""
    shutil.rmtree(folder, ignore_errors=True)
    for index, split in zip(read_sources(data.path), data.splits, strict=True):
        if SPLITS[split] == "test":
            continue
        link = folder / SPLITS[split] / index
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source / index)
    return folder


def weights_file(folder: Path) -> Path:
    """MobileNetV2's ImageNet features where they are, else random ones of a fixed seed."""
    if WEIGHTS.is_file():
        return WEIGHTS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = torchvision.models.mobilenet_v2().state_dict()
    features = {name: value for name, value in state.items() if name.startswith("features.")}
    path = folder / "random_features.pt"
    torch.save(features, path)
    return path


def describe(data: ImageData, input_sizes: Sequence[int], weights: Path) -> str:
    """One line that goes with every table."""
    sizes = ", ".join(str(size) for size in input_sizes)
    counts = ", ".join(f"{len(data.rows(split)):,} {split}" for split in ("train", "validation"))
    return f"{len(data.classes)} classes, {counts} images, {sizes} px; {weights.name}"
