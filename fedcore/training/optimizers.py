"""SGD and AdamW over lists of tensors, through torch's functional forms.

Not ``torch.optim.SGD``: making an optimizer object imports the compiler: 1.6 s of CPU in every
worker process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Step = Callable[[list["torch.Tensor"], list["torch.Tensor"]], None]


def sgd(*, learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0) -> Step:
    """``step(parameters, gradients)`` of SGD with heavy-ball momentum, as ``torch.optim.SGD``."""
    from torch.optim.sgd import sgd as update

    velocity: list[torch.Tensor | None] = []

    def step(parameters, gradients):
        if not velocity:
            velocity.extend([None] * len(parameters))
        update(
            parameters,
            gradients,
            velocity,
            foreach=True,
            weight_decay=weight_decay,
            momentum=momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    return step


def adamw(*, learning_rate: float, weight_decay: float = 0.01) -> Step:
    """``step(parameters, gradients)`` of AdamW with betas 0.9 and 0.999, as ``torch.optim.AdamW``.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2.
    """
    import torch
    from torch.optim.adamw import adamw as update

    first: list[torch.Tensor] = []
    second: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []

    def step(parameters, gradients):
        if not first:
            first.extend(torch.zeros_like(p) for p in parameters)
            second.extend(torch.zeros_like(p) for p in parameters)
            counts.extend(torch.tensor(0.0) for _ in parameters)
        update(
            parameters,
            gradients,
            first,
            second,
            [],
            counts,
            foreach=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=weight_decay,
            eps=1e-8,
            maximize=False,
        )

    return step
