"""One layer's part in the gradients of single examples: their norms, and their weighted sums.

A layer that multiplies has the gradient ``sum over positions of (gradient of output) x (input)``:

- at one position the norm is the product of two norms, and no example's gradient is ever made
  (Goodfellow, Efficient Per-Example Gradient Computations, 2015);
- at few positions it follows from the Gram matrices of both ("ghost": Li et al., Large Language
  Models Can Be Strong Differentially Private Learners, ICLR 2022, section 4), here in float64, as a
  norm that cancellation makes too small would not be clipped;
- else the gradients are made, which costs no more than their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.grad import conv2d_weight

Sums = dict[nn.Parameter, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """Of one layer, for a batch of b examples.

    Attributes:
      squares: (b,) squared L2 norm of each example's gradient.
      weighted: factors (b,) to the sums over examples of factor times gradient, by parameter.
    """

    squares: torch.Tensor
    weighted: Callable[[torch.Tensor], Sums]


# Multiplications of an example from which on its own convolution is faster than a batch of patches.
_LARGE = 2**20

Rule = Callable[[Any, torch.Tensor, torch.Tensor], Part]


def rule_for(layer: nn.Module) -> Rule | None:
    """``rule(layer, inputs, gradients of the outputs)`` for the layer's type; None: there is none.

    Ours for what our models are made of, for others the per-example gradients of Opacus, and for
    layers that it does not know (a scale, say) those of ``torch.func``.
    """
    if type(layer) is nn.Conv2d and (layer.padding_mode != "zeros" or layer.padding == "same"):
        return _functional
    if type(layer) in _RULES:
        return _RULES[type(layer)]
    if list(layer.children()):  # its parameters may act anywhere among its children
        return None
    from opacus.grad_sample import GradSampleModule  # 2.6 s of CPU

    sampler = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    if sampler is None:
        return _functional
    return lambda layer, inputs, outer: _explicit(layer, sampler(layer, [inputs], outer))


def _linear(layer: nn.Linear, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    if inputs.ndim > 2:
        inputs, outer = inputs.flatten(1, -2).mT, outer.flatten(1, -2).mT
        return _product(layer, inputs[:, None], outer[:, None])
    reached: torch.Tensor | int = int(_is_trained(layer.bias))
    if _is_trained(layer.weight):
        reached = torch.linalg.vector_norm(inputs, dim=1).square() + reached

    def weighted(factors):
        scaled = outer * factors[:, None]
        return _trained(layer, lambda: scaled.mT @ inputs, lambda: factors @ outer)

    return Part(torch.linalg.vector_norm(outer, dim=1).square() * reached, weighted)


def _convolution(layer: nn.Conv2d, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    padding = 0 if isinstance(layer.padding, str) else layer.padding
    shape, positions = layer.weight.shape, outer[0, 0].numel()
    d, p = shape[1:].numel(), shape[0] // layer.groups
    if positions * d * p * layer.groups >= _LARGE and not _is_ghost(positions, d, p):

        def weight():
            form = layer.stride, padding, layer.dilation, layer.groups
            pairs = zip(inputs.split(1), outer.split(1), strict=True)
            return torch.stack([conv2d_weight(one, shape, back, *form) for one, back in pairs])

        return _explicit(layer, _trained(layer, weight, lambda: outer.sum((2, 3))))
    patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
    groups = (layer.groups, -1)
    return _product(layer, patches.unflatten(1, groups), outer.flatten(2).unflatten(1, groups))


def _product(layer: Any, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    """Of gradients ``outer @ inputs^T`` per group: (b, groups, d, t) and (b, groups, p, t)."""
    bias = outer.sum(3).flatten(1)
    if not _is_ghost(inputs.shape[3], inputs.shape[2], outer.shape[2]):
        return _explicit(layer, _trained(layer, lambda: outer @ inputs.mT, lambda: bias))
    squares = bias.square().sum(1) * _is_trained(layer.bias)
    if _is_trained(layer.weight):
        grams = (x.mT @ x for x in (inputs.double(), outer.double()))
        square = torch.mul(*grams).sum((1, 2, 3)).clamp(min=0)  # a rounded zero may be below
        squares = squares + square.to(outer.dtype)

    def weighted(factors):
        def weight():
            scaled = outer * factors[:, None, None, None]
            return torch.einsum("bgpt,bgdt->gpd", scaled, inputs).reshape(layer.weight.shape)

        return _trained(layer, weight, lambda: factors @ bias)

    return Part(squares, weighted)


def _is_ghost(positions: int, d: int, p: int) -> bool:
    """Whether the Gram matrices of both sides are less work than the p x d gradient."""
    return 4 * positions * (d + p) <= d * p


def _group_norm(layer: nn.GroupNorm, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    normal = functional.group_norm(inputs, layer.num_groups, eps=layer.eps)
    return _scale_and_shift(layer, (normal * outer).flatten(2).sum(2), outer.flatten(2).sum(2))


def _layer_norm(layer: nn.LayerNorm, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    normal = functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    between = tuple(range(1, outer.ndim - len(layer.normalized_shape)))
    parts = (normal * outer, outer)
    return _scale_and_shift(layer, *(part.sum(between) if between else part for part in parts))


def _scale_and_shift(layer: Any, scale: torch.Tensor, shift: torch.Tensor) -> Part:
    return _explicit(layer, _trained(layer, lambda: scale, lambda: shift))


def _functional(layer: nn.Module, inputs: torch.Tensor, outer: torch.Tensor) -> Part:
    def product(parameters, one, gradient):
        return (functional_call(layer, parameters, (one[None],))[0] * gradient).sum()

    named = {n: p for n, p in layer.named_parameters(recurse=False) if p.requires_grad}
    detached = {name: parameter.detach() for name, parameter in named.items()}
    made = vmap(grad(product), in_dims=(None, 0, 0))(detached, inputs, outer)
    return _explicit(layer, {parameter: made[name] for name, parameter in named.items()})


def _explicit(layer: nn.Module, gradients: Sums) -> Part:
    """Of gradients that were made: parameter -> (b, *its shape)."""
    kept = {p: gradients[p].flatten(1) for p in layer.parameters(recurse=False) if p.requires_grad}
    squares = sum(torch.linalg.vector_norm(made, dim=1).square() for made in kept.values())

    def weighted(factors):
        return {p: (factors @ gradient).view(p.shape) for p, gradient in kept.items()}

    return Part(torch.as_tensor(squares), weighted)


def _is_trained(parameter: torch.Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _trained(
    layer: Any, weight: Callable[[], torch.Tensor], bias: Callable[[], torch.Tensor]
) -> Sums:
    made = ((layer.weight, weight), (layer.bias, bias))
    return {parameter: make() for parameter, make in made if _is_trained(parameter)}


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
