"""resnet18: the standard architecture with random weights, to measure throughput with.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), table 1, 18 layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

import jitney

if TYPE_CHECKING:
    from pathlib import Path

SEED = 18
IMAGE = "image:FP32[N,3,224,224]"


def convolution(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Sequential:
    """Return a convolution that keeps or divides the image's size, and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    )


class Block(nn.Module):
    """Two 3 x 3 convolutions around which the input is carried and added (figure 2)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(channels_in, channels_out, 3, stride)
        self.second = convolution(channels_out, channels_out, 3, 1)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else convolution(channels_in, channels_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, ``[N, channels_out, H / stride, W / stride]``."""
        inner = self.second(torch.relu(self.first(x)))
        return torch.relu(inner + self.shortcut(x))


class ResNet18(nn.Module):
    """FP32 images ``[N, 3, 224, 224]`` to scores ``[N, 1000]``; 11.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 64, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        widths = [64, 64, 128, 256, 512]
        blocks = []
        for stage in range(4):
            blocks.append(Block(widths[stage], widths[stage + 1], 1 if stage == 0 else 2))
            blocks.append(Block(widths[stage + 1], widths[stage + 1], 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, 1000)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return a score per class."""
        x = self.pool(torch.relu(self.stem(image)))
        scores: torch.Tensor = self.head(self.blocks(x).mean((2, 3)))
        return scores


def build(folder: Path) -> None:
    """Draw the weights and pack; one sample of two rows, because an image is 0.6 MB."""
    torch.manual_seed(SEED)
    model = ResNet18().eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"  {parameters / 1e6:.1f} million random parameters")
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(SEED))
    jitney.pack(
        model,
        folder / "1" / "model.pt",
        inputs=[IMAGE],
        outputs=["scores:FP32[N,1000]"],
        samples=[[image]],
        description="ResNet-18 with random weights: for measuring throughput, it knows no images.",
    )
