"""Which way leads to the clipped gradients of a network's single examples: tried, not believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from fedcore.training.private.by_layers import NotByLayers, sum_by_layers, sum_of_head
from fedcore.training.private.clipped_sum import Loss, Way, sum_by_vmap, sum_one_by_one
from fedcore.training.private.layers import Sums

_FOUND: WeakKeyDictionary[nn.Module, dict[tuple[bool, ...], Way]] = WeakKeyDictionary()
_EXAMPLES = 3  # prime, so that no dimension of a layer is taken for the examples by accident


def choose_way(network: nn.Module, loss: Loss, like: torch.Tensor, targets: torch.Tensor) -> Way:
    """The fastest way that gives what each example alone gives.

    On invented inputs and weights, so that the answer depends on the architecture only: layers
    without a rule, parameters used outside of their layer, changes in place and anything that mixes
    examples are found here. Remembered for the network. What reads whole numbers (token ids) is
    taken one by one: none can be invented without knowing what they stand for.

    Args:
      network: as it will be trained; nothing of it is changed.
      loss: sum over a batch's examples.
      like: (any, ...) preprocessed inputs; their type and shape alone are read.
      targets: (any, ...); their type and shape alone are read.
    """
    trained = tuple(parameter.requires_grad for parameter in network.parameters())
    found = _FOUND.setdefault(network, {})
    if trained not in found:
        found[trained] = _tried(network, loss, like, targets)
    return found[trained]


def _tried(network: nn.Module, loss: Loss, like: torch.Tensor, targets: torch.Tensor) -> Way:
    if not like.is_floating_point():
        return sum_one_by_one
    device = next(network.parameters()).device
    with _invented_weights(network):
        inputs = torch.randn(_EXAMPLES, *like.shape[1:], device=device).to(like.dtype)
        labels = targets.new_zeros(_EXAMPLES, *targets.shape[1:], device=device)
        together = () if _mixes(network, inputs) else (sum_of_head, sum_by_layers)
        for way in (*together, sum_by_vmap):
            if _is_right(way, network, loss, inputs, labels):
                return way
    return sum_one_by_one


@contextmanager
def _invented_weights(network: nn.Module) -> Iterator[None]:
    """In this scope; zeros of a new head, say, would hide what is before it."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    kept = [parameter.detach().clone() for parameter in parameters]
    modes = {module: module.training for module in network.modules()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                for parameter in parameters:
                    parameter.normal_(std=0.1)
            yield
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


def _is_right(
    way: Way, network: nn.Module, loss: Loss, inputs: torch.Tensor, labels: torch.Tensor
) -> bool:
    """Whether it works in training mode and, without dropout, agrees with each example alone."""
    modes = {module: module.training for module in network.modules()}
    try:
        way(network, loss)(inputs, labels, _bounds(1.0))
        network.eval()
        return all(
            _agree(*(w(network, loss)(inputs, labels, bounds) for w in (way, sum_one_by_one)))
            for bounds in map(_bounds, (1e-3, 1e30))
        )
    except (NotByLayers, RuntimeError):  # vmap's: control that depends on values, and the like
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode


def _bounds(clip_norm: float) -> torch.Tensor:
    return torch.full((_EXAMPLES,), clip_norm, dtype=torch.float64)


def _agree(found: Sums, expected: Sums) -> bool:
    zero = torch.zeros(())
    everything = found.keys() | expected.keys()
    apart = sum(
        (found.get(p, zero) - expected.get(p, zero)).double().square().sum() for p in everything
    )
    length = sum(value.double().square().sum() for value in expected.values())
    return bool(apart <= 1e-4 * length)
