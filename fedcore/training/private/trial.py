"""Whether a network's layers tell the gradients of single examples: tried, not believed."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import nn

from fedcore.training.private.clipped_sum import (
    Loss,
    NotByLayers,
    sum_by_layers,
    sum_one_by_one,
)

_FOUND: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_EXAMPLES = 3  # prime, so that no dimension of a layer is taken for the examples by accident


def by_layers(
    network: nn.Module, loss: Loss, input_shape: tuple[int, ...], targets: torch.Tensor
) -> bool:
    """Whether :func:`sum_by_layers` may be used: it gives what each example alone gives.

    On invented inputs and weights, so that the answer depends on the architecture only: layers
    without a rule, parameters used outside of their layer, in-place changes and anything that mixes
    examples are found here. Remembered for the network.

    Args:
      network: as it will be trained; nothing of it is changed.
      loss: sum over a batch's examples.
      input_shape: of one preprocessed input.
      targets: (any, ...); their type and shape alone are read.
    """
    if network not in _FOUND:
        _FOUND[network] = _tried(network, loss, input_shape, targets)
    return _FOUND[network]


def _tried(
    network: nn.Module, loss: Loss, input_shape: tuple[int, ...], targets: torch.Tensor
) -> bool:
    parameters = [p for p in network.parameters() if p.requires_grad]
    device = parameters[0].device
    kept = [p.detach().clone() for p in parameters]
    modes = {module: module.training for module in network.modules()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.randn(_EXAMPLES, *input_shape, device=device)
        labels = targets.new_zeros(_EXAMPLES, *targets.shape[1:], device=device)
        try:
            with torch.no_grad():
                for parameter in parameters:  # zeros of a new head would hide what is before it
                    parameter.normal_(std=0.1)
            if _mixes(network, inputs):
                return False
            network.eval()  # no dropout, which differs from batch to batch
            return all(_agree(network, loss, inputs, labels, clip) for clip in (1e-3, 1e30))
        except NotByLayers:
            return False
        finally:
            with torch.no_grad():
                for parameter, before in zip(parameters, kept, strict=True):
                    parameter.copy_(before)
            for module, mode in modes.items():
                module.training = mode


def _mixes(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Whether, in training mode, the first example's logits depend on the others."""
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(inputs)[0].sum(), inputs)
    return bool((gradient[1:] != 0).any())


def _agree(
    network: nn.Module, loss: Loss, inputs: torch.Tensor, labels: torch.Tensor, clip_norm: float
) -> bool:
    found, expected = (
        way(network, loss, clip_norm)(inputs, labels) for way in (sum_by_layers, sum_one_by_one)
    )
    if found.keys() != expected.keys():
        return False
    apart = sum((found[p] - expected[p]).double().square().sum() for p in expected)
    length = sum(value.double().square().sum() for value in expected.values())
    return bool(apart <= 1e-4 * length)
