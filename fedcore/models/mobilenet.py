"""A small MobileNetV2 with GroupNorm for images of 28 to 64 pixels."""

from __future__ import annotations

import torch
from torch import nn

from fedcore.models.norm import group_norm

# channels, blocks, stride of the first block; Sandler et al. 2018, table 2, first five stages,
# with one stride of 2 fewer because the images are small.
STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 3, 2), (96, 2, 1))


class InvertedResidual(nn.Module):
    """Expand by a 1 x 1, filter by a depthwise 3 x 3, project by a 1 x 1 convolution."""

    def __init__(self, channels: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.is_residual = stride == 1 and channels == after
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            group_norm(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False),
            group_norm(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, after, 1, bias=False),
            group_norm(after),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, after, h / stride, w / stride)."""
        outputs = self.layers(inputs)
        return inputs + outputs if self.is_residual else outputs


def mobilenet(
    input_shape: tuple[int, int, int], outputs: int, width: float = 0.5, expansion: int = 6
) -> nn.Sequential:
    """MobileNetV2 cut to five stages, GroupNorm instead of BatchNorm.

    Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018.

    Args:
      input_shape: (channels, height, width).
      outputs: number of logits.
      width: multiplier of all channel counts, rounded to multiples of 8.
      expansion: widening inside a block (6 in the paper).
    """
    channels = input_shape[0]

    def scaled(count):
        return max(8, int(count * width + 4) // 8 * 8)

    before = scaled(32)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, before, 3, stride=2, padding=1, bias=False),
        group_norm(before),
        nn.ReLU6(),
    ]
    for stage, (count, blocks, stride) in enumerate(STAGES):
        for block in range(blocks):
            after = scaled(count)
            step = stride if not block else 1
            layers.append(InvertedResidual(before, after, step, expansion if stage else 1))
            before = after
    last = scaled(1280 // 4)
    layers += [nn.Conv2d(before, last, 1, bias=False), group_norm(last), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, outputs))
