"""Linear layers that stay frozen under an adapter, whichever way round their weight lies."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class FrozenLinear(nn.Linear):
    """A frozen linear layer whose weight the server may have corrected by a ``residual``.

    Attributes:
      residual: (out, in) float32 that is added to the weight, or None.
      was_conv1d: whether it stands for a ``Conv1D`` of ``transformers``, which holds the weight of
        a linear layer as (in, out): GPT-2 and its kin.
    """

    residual: torch.Tensor | None
    was_conv1d: bool

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the arithmetic of the inputs."""
        if self.residual is None:
            return super().forward(inputs)
        # Added in float32: a bfloat16 weight would swallow most of it.
        weight = self.weight.float() + self.residual
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(inputs.float(), weight, bias).to(inputs.dtype)

    @staticmethod
    def of(layer: nn.Module) -> FrozenLinear:
        """The same layer, sharing its weight (of a ``Conv1D`` turned, as a view) and bias."""
        plain: Any = layer
        is_turned = not isinstance(layer, nn.Linear)
        weight = nn.Parameter(plain.weight.data.t(), False) if is_turned else plain.weight
        frozen = FrozenLinear(weight.shape[1], weight.shape[0], device="meta")
        frozen.weight, frozen.bias = weight, plain.bias
        frozen.was_conv1d = is_turned
        frozen.register_buffer("residual", None)
        return frozen

    def as_it_was(self) -> nn.Module:
        """The layer of the library with this weight, without a correction, and this bias."""
        if not self.was_conv1d:
            return plain_linear(self.weight, self.bias)
        from transformers.pytorch_utils import Conv1D

        turned = Conv1D(self.out_features, 0)
        turned.nx = self.in_features
        weight = self.weight.data.t().contiguous()
        turned.weight, turned.bias = nn.Parameter(weight, False), self.bias
        return turned


def plain_linear(weight: Any, bias: Any) -> nn.Linear:
    """A linear layer of this (out, in) weight, and of this bias or None."""
    plain = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    plain.weight, plain.bias = weight, bias
    return plain


def is_linear(module: nn.Module) -> bool:
    """Whether an adapter can be beside it: a linear layer, or a ``Conv1D`` of ``transformers``."""
    # bitsandbytes' layers of 8 and 4 bits are subclasses of the first.
    return isinstance(module, nn.Linear) or _is_conv1d(module)


def takes_correction(module: nn.Module) -> bool:
    """Whether :class:`FrozenLinear` can stand for it; a quantised weight takes no correction."""
    return type(module) is nn.Linear or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)
