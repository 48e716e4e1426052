"""Residual networks with GroupNorm, narrow or full width."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from fedcore.models.norm import group_norm

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; ``stride`` halves the resolution when it is 2."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = group_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = group_norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), group_norm(width)
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, width, h / stride, w / stride)."""
        hidden = functional.relu(self.norm1(self.conv1(inputs)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


def resnet(
    input_shape: tuple[int, int, int], outputs: int, depth: int = 18, width: int = 64
) -> nn.Sequential:
    """ResNet of basic blocks with GroupNorm; a 3 x 3 stem without pooling up to 64 pixels.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, table 1 and section 4.2
    (the small stem).

    Args:
      input_shape: (channels, height, width).
      outputs: number of logits.
      depth: 10, 18 or 34 layers.
      width: channels of the first stage (64 in the paper; 16 is quick on a CPU).
    """
    channels, height, across = input_shape
    if max(height, across) <= 64:
        stem = [nn.Conv2d(channels, width, 3, padding=1, bias=False), group_norm(width), nn.ReLU()]
    else:
        stem = [
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
            group_norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
    stages: list[nn.Module] = []
    before = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        after = width * 2**stage
        for block in range(blocks):
            stages.append(BasicBlock(before, after, 2 if stage and not block else 1))
            before = after
    return nn.Sequential(
        *stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)
    )
