"""digits: a small CNN that reads the handwritten digits which scikit-learn ships.

1797 images of 8 x 8 pixels; a fifth is held out. Trains in seconds on one core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from build import BuildError
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jitney

if TYPE_CHECKING:
    from pathlib import Path

SEED = 7
EPOCHS = 30
BATCH = 64
LARGEST_PIXEL = 16.0
LEAST_ACCURACY = 0.97
SCALE = 16


class Digits(torch.nn.Module):
    """Two convolutions and two dense layers; FP32 ``[N, 1, 8, 8]`` to scores ``[N, 10]``.

    Pixels are 0 (paper) to 1 (ink).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1),
            torch.nn.BatchNorm2d(16),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, padding=1),
            torch.nn.BatchNorm2d(32),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 4 * 4, 64),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(64, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return a score per class; the largest is the answer."""
        scores: torch.Tensor = self.layers(image)
        return scores


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images and labels to train with, and the same held out."""
    digits = load_digits()
    images = (digits.images / LARGEST_PIXEL).astype(np.float32)[:, None]
    parts = train_test_split(
        images, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target
    )
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)
    return train_images, train_labels, test_images, test_labels


def train(images: torch.Tensor, labels: torch.Tensor) -> Digits:
    """Return a trained model in evaluation mode; the same one for the same build of torch."""
    # One thread: the layers are too small to share, and threads that wait for each other on a busy
    # machine take ten times as long.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = Digits()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=steps)
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach().item() * len(rows)
        if epoch % 10 == 0:
            print(f"  epoch {epoch}/{EPOCHS}: loss {total / len(images):.4f}")
    torch.set_num_threads(threads)
    return model.eval()


def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the part of the images that is read right, 0 to 1."""
    with torch.inference_mode():
        return float((model(images).argmax(1) == labels).double().mean())


def save_examples(
    folder: Path, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """Write a held-out image of each digit as PNG, enlarged; ink is white, as in the data.

    Of each digit the first that the model reads right: an example that looks like a bug is none.
    """
    folder.mkdir(exist_ok=True)
    with torch.inference_mode():
        right = model(images).argmax(1) == labels
    for digit in range(10):
        index = int(((labels == digit) & right).nonzero()[0])
        pixels = (images[index, 0].numpy() * 255).round().astype(np.uint8)
        large = Image.fromarray(pixels).resize((8 * SCALE, 8 * SCALE), Image.Resampling.NEAREST)
        large.save(folder / f"{digit}.png")


def build(folder: Path) -> None:
    """Train, measure, pack.

    :raises BuildError: when the held-out accuracy is below 0.97.
    """
    train_images, train_labels, test_images, test_labels = load()
    print(f"  {len(train_images)} images to train with, {len(test_images)} held out")
    model = train(train_images, train_labels)
    reached = accuracy(model, test_images, test_labels)
    print(f"  held-out accuracy {reached:.4f}")
    if reached < LEAST_ACCURACY:
        msg = f"held-out accuracy {reached:.4f}, expected at least {LEAST_ACCURACY}"
        raise BuildError(msg)
    jitney.pack(
        model,
        folder / "1" / "model.pt",
        inputs=["image:FP32[N,1,8,8]:0..1"],
        outputs=["scores:FP32[N,10]"],
        samples=[[test_images[:1]], [test_images[1:4]], [test_images[4:12]]],
        labels=[str(digit) for digit in range(10)],
        description="Reads a handwritten digit: 8 x 8 pixels, 0 (paper) to 1 (ink).",
    )
    save_examples(folder / "examples", model, test_images, test_labels)
