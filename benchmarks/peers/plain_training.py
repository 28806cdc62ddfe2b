"""The training that every peer runs: PyTorch's transfer-learning tutorial, on one CPU thread.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: ImageFolder and
DataLoader, pretrained layers frozen by `requires_grad`, `model.train()` and `model.eval()` every
epoch. Not from there: weights from a file; no random crops (flopwise is given none either); `step`
and `cosine` as flopwise has them, so that equal recipes train alike; and DataLoader's default of no
worker processes, since the trials that run at once have all the cores (with the tutorial's 4 each,
more processes than cores would compete).

Frozen batch norm follows the images in `model.train()`, as it does in the tutorial; flopwise keeps
it. Accuracy is that of the last epoch on the validation images.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, models, transforms

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def train(config: Mapping[str, Any], report: Callable[[int, float, float], None]) -> None:
    """Train one recipe, calling report(epoch, accuracy, gflops) after every epoch."""
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    train_loader, validation_loader = build_loaders(
        Path(config["images"]), config["input_size"], config["batch_size"]
    )
    num_classes = len(train_loader.dataset.classes)  # pyright: ignore[reportAttributeAccessIssue]
    model = build_model(config["weights"], num_classes, config["unfrozen"])
    gflops = count_gflops(model, config["input_size"])
    optimizer = build_optimizer(config, model)
    steps = config["epochs"] * len(train_loader)
    by_step, by_epoch = build_schedule(config, optimizer, steps)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, config["epochs"] + 1):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            if by_step is not None:
                by_step.step()
        if by_epoch is not None:
            by_epoch.step()
        report(epoch, evaluate(model, validation_loader), gflops)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any]) -> float:
    """Accuracy, a fraction of 1."""
    model.eval()
    num_correct = num_images = 0
    for images, labels in loader:
        num_correct += int((model(images).argmax(1) == labels).sum())
        num_images += len(labels)
    return num_correct / num_images


def build_loaders(
    images: Path, input_size: int, batch_size: int
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    transform = transforms.Compose(
        [
            transforms.Resize(input_size),
            transforms.CenterCrop(input_size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    train_images = datasets.ImageFolder(str(images / "train"), transform)
    validation_images = datasets.ImageFolder(str(images / "validation"), transform)
    return (
        DataLoader(train_images, batch_size=batch_size, shuffle=True),
        DataLoader(validation_images, batch_size=batch_size),
    )


def build_model(weights: str, num_classes: int, unfrozen: int) -> nn.Module:
    """MobileNetV2 from a file, with a new head; the last `unfrozen` blocks of 19 and it train."""
    model = models.mobilenet_v2()
    model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    for block in model.features[: len(model.features) - unfrozen]:
        for parameter in block.parameters():
            parameter.requires_grad = False
    model.classifier[1] = nn.Linear(model.last_channel, num_classes)
    return model


def build_optimizer(config: Mapping[str, Any], model: nn.Module) -> optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = config["learning_rate"]
    match config["optimizer"]:
        case "adam":
            return optim.Adam(trained, lr=rate)
        case "adamw":
            return optim.AdamW(trained, lr=rate, weight_decay=0.0)
        case "sgd":
            return optim.SGD(trained, lr=rate, momentum=0.9, nesterov=True)
        case "rmsprop":
            return optim.RMSprop(trained, lr=rate)
    raise ValueError(f"optimizer: {config['optimizer']}")


def build_schedule(
    config: Mapping[str, Any], optimizer: optim.Optimizer, steps: int
) -> tuple[lr_scheduler.LRScheduler | None, lr_scheduler.LRScheduler | None]:
    """What to step after each batch, and what after each epoch."""
    match config["scheduler"]:
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps), None
        case "step":
            third = math.ceil(config["epochs"] / 3)
            return None, lr_scheduler.StepLR(optimizer, step_size=third, gamma=0.1)
    return None, None


def count_gflops(model: nn.Module, input_size: int) -> float:
    """Of one forward pass of one image; torch's counter has 2 FLOPs a multiply-add."""
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, input_size, input_size))
    return counter.get_total_flops() / 1e9
