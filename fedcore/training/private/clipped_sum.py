"""The sum of a batch's clipped gradients, each example's scaled down to a norm of its own.

:mod:`fedcore.training.private.by_layers` has the fast ways; here are those for any network, which
make the examples' gradients: some at a time, or one by one. The trial chooses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from fedcore.training.private.layers import Part, Sums

Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """What is clipped: the examples' losses.

    Attributes:
      total: (network, inputs, targets) -> their sum.
      by_logits: (logits, targets) -> (b, outputs), the gradient of each by its logits; None: only
        autograd has it.
    """

    total: Callable[[Network, torch.Tensor, torch.Tensor], torch.Tensor]
    by_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    def __call__(
        self, network: Network, inputs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """``total``."""
        return self.total(network, inputs, targets)


# (inputs (b, ...), targets (b, ...), clip norms (b,)) -> the sum of their clipped gradients.
ClippedSum = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Sums]

Way = Callable[[nn.Module, Loss], ClippedSum]

# Numbers in the gradients that are made at a time (256 MB in float32).
KEPT = 2**26

# What a norm in float32 may be too small by, relatively.
MARGIN = 1e-5


def sum_of_parts(
    parts_of: Callable[[torch.Tensor, torch.Tensor], Sequence[Part]],
) -> ClippedSum:
    """A batch to the sum over its examples of ``gradient * min(1, clip_norm / norm)``.

    Norms are over all trainable parameters together; each example has a clip norm of its own.

    An example whose gradient is not finite counts as zero: to stop here would tell that there is
    one. A parameter that the network did not use is not in the result.

    Args:
      parts_of: a batch to its layers' parts.
    """

    def clipped_sum(inputs, targets, clip_norms):
        parts = parts_of(inputs, targets)
        if not parts:
            return {}
        with torch.no_grad():
            norms = sum((part.squares for part in parts[1:]), parts[0].squares).sqrt()
            if math.isfinite(norms.max().item()):
                factors = clip_factors(norms, clip_norms)
                return {p: value for part in parts for p, value in part.weighted(factors).items()}
            kept = norms.isfinite()
        if not kept.any():
            return {}
        return clipped_sum(inputs[kept], targets[kept], clip_norms[kept.cpu()])

    return clipped_sum


def sum_by_vmap(network: nn.Module, loss: Loss) -> ClippedSum:
    """As :func:`sum_of_parts`, for any network that ``torch.func.vmap`` can run."""
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    at_once = max(1, KEPT // sum(parameter.numel() for parameter in named.values()))

    def example_loss(parameters, one, target):
        def called(inputs):
            return functional_call(network, parameters, (inputs,))

        return loss(called, one[None], target[None])

    def clipped_sum(inputs, targets, clip_norms):
        detached = {name: parameter.detach() for name, parameter in named.items()}
        sums: Sums = {}
        with warnings.catch_warnings():
            # Attention on a CPU; slower than it could be, and still the fastest way.
            warnings.filterwarnings("ignore", "There is a performance drop")
            for some in torch.arange(len(inputs)).split(at_once):
                each = vmap(grad(example_loss), (None, 0, 0), randomness="different")(
                    detached, inputs[some], targets[some]
                )
                squares = torch.stack([g.flatten(1).square().sum(1) for g in each.values()])
                norms = squares.sum(0).sqrt()
                is_finite = norms.isfinite()
                kept = slice(None) if is_finite.all() else is_finite  # no copy of everything
                factors = clip_factors(norms, clip_norms[some])[kept]
                for name, parameter in named.items():
                    clipped = (factors @ each[name][kept].flatten(1)).view(parameter.shape)
                    sums[parameter] = sums.get(parameter, 0) + clipped
        return sums

    return clipped_sum


def sum_one_by_one(network: nn.Module, loss: Loss) -> ClippedSum:
    """As :func:`sum_of_parts`, for any network at all: each example alone."""
    parameters = [p for p in network.parameters() if p.requires_grad]

    def clipped_sum(inputs, targets, clip_norms):
        sums: Sums = {}
        for one in torch.arange(len(inputs)).split(1):
            gradients = torch.autograd.grad(
                loss(network, inputs[one], targets[one]), parameters, allow_unused=True
            )
            used = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
            norm = torch.stack([g.square().sum() for g in used.values()]).sum().sqrt()
            if norm.isfinite():
                factor = clip_factors(norm, clip_norms[one[0]])
                for parameter, gradient in used.items():
                    sums[parameter] = sums.get(parameter, 0) + gradient * factor
        return sums

    return clipped_sum


def clip_factors(norms: torch.Tensor, clip_norms: torch.Tensor) -> torch.Tensor:
    """``min(1, clip_norm / norm)`` of each, less by what the norm's rounding may hide.

    Args:
      norms: of any shape and dtype, which the factors have too.
      clip_norms: float64 on the CPU, of that shape.

    >>> clip_factors(torch.tensor([0.0, 1.0, 4.0]), torch.full((3,), 2.0, dtype=torch.float64))
    tensor([1.0000, 1.0000, 0.5000])
    """
    bounds = (clip_norms / (1 + MARGIN)).to(norms.dtype).to(norms.device)
    return (norms.reciprocal() * bounds).clamp(max=1.0)
