"""Small convolutional networks for images of 28 to 64 pixels."""

from __future__ import annotations

from typing import Literal

from torch import nn

from fedcore.models.norm import group_norm


def cnn_mcmahan(input_shape: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """The MNIST CNN of FedAvg: 1,663,370 parameters for 28 x 28 x 1 and 10 classes.

    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
    AISTATS 2017, section 3. https://arxiv.org/abs/1602.05629

    Args:
      input_shape: (channels, height, width).
      outputs: number of logits.
    """
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, outputs),
    )


def cnn_gn(
    input_shape: tuple[int, int, int], outputs: int, width: int = 16, dropout: float = 0.0
) -> nn.Sequential:
    """A small CNN with GroupNorm and a flatten head: 224,353 parameters for 28 x 28 x 1, 1 logit.

    Args:
      input_shape: (channels, height, width).
      outputs: number of logits.
      width: channels of the first convolution; the next have 2 and 4 times as many.
      dropout: probability before the last layer.
    """
    channels, height, across = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        group_norm(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        group_norm(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1),
        group_norm(4 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * width * (height // 4) * (across // 4), 64),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(64, outputs),
    )


def cnn_cifar(
    input_shape: tuple[int, int, int], outputs: int, dropout: float = 0.0
) -> nn.Sequential:
    """The CIFAR-10 CNN of FedAvg (the TensorFlow tutorial's), GroupNorm for local response norm.

    McMahan et al. 2017 (see :func:`cnn_mcmahan`), section 3.

    Args:
      input_shape: (channels, height, width).
      outputs: number of logits.
      dropout: probability before each of the two fully connected layers.
    """
    channels, height, width = input_shape
    pooled = ((height + 1) // 2 + 1) // 2, ((width + 1) // 2 + 1) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        group_norm(64),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        group_norm(64),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64 * pooled[0] * pooled[1], 384),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(384, 192),
        nn.ReLU(),
        nn.Linear(192, outputs),
    )


def cnn_tanh(
    input_shape: tuple[int, int, int], outputs: int, activation: Literal["tanh", "relu"] = "tanh"
) -> nn.Sequential:
    """The MNIST CNN of private training: 26,010 parameters for 28 x 28 x 1 and 10 classes.

    Papernot et al., Tempered Sigmoid Activations for Deep Learning with Differential Privacy, AAAI
    2021, table 1. https://arxiv.org/abs/2007.14191

    Args:
      input_shape: (channels, height, width), of at least 16 pixels.
      outputs: number of logits.
      activation: of every layer but the last.
    """
    channels, height, width = input_shape
    layer = nn.Tanh if activation == "tanh" else nn.ReLU
    # 8 x 8 by steps of 2 on a margin of 2, pooled, 4 x 4 by steps of 2, pooled: 28 -> 13, 12, 5, 4.
    height, width = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 16, 8, stride=2, padding=2),
        layer(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 4, stride=2),
        layer(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(32 * height * width, 32),
        layer(),
        nn.Linear(32, outputs),
    )
