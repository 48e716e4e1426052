"""Linear and multi-layer perceptron classifiers on flattened inputs."""

from __future__ import annotations

import math

from torch import nn


def mlp(
    input_shape: tuple[int, ...], outputs: int, hidden: tuple[int, ...] = (), dropout: float = 0.0
) -> nn.Sequential:
    """A perceptron with ReLU; without hidden layers it is logistic (or linear) regression.

    Args:
      input_shape: shape of one input, flattened.
      outputs: number of logits.
      hidden: width of each hidden layer.
      dropout: probability after each hidden layer.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(input_shape)
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        width = size
    return nn.Sequential(*layers, nn.Linear(width, outputs))
