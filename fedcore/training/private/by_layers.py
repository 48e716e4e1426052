"""Clipped sums from what a network's layers read and what came back to them.

One pass forward and one back to the layers' outputs, from which the norms and then the weighted
sums follow without a gradient of any weight: Bu et al., Differentially Private Optimization on
Large Foundation Models at Small Cost, ICML 2023, section 3 ("book-keeping").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from fedcore.training.private.clipped_sum import ClippedSum, Loss, sum_of_parts
from fedcore.training.private.layers import Part, Rule, rule_for


class NotByLayers(ValueError):
    """This network's layers do not tell its examples' gradients."""


def sum_of_head(network: nn.Module, loss: Loss) -> ClippedSum:
    """As :func:`sum_by_layers`, of a linear layer after what has nothing to train, in closed form.

    The loss's gradient by the logits is all that the norms and the sums need.

    Raises:
      NotByLayers: the network or the loss is something else.
    """
    *before, head = network if isinstance(network, nn.Sequential) else (network,)
    rules = _rules(network)
    if type(head) is not nn.Linear or list(rules) != [head]:
        raise NotByLayers(f"{type(network).__name__} is no linear layer after fixed ones.")
    by_logits = loss.by_logits
    if by_logits is None:
        raise NotByLayers("this loss has no gradient by the logits in closed form.")

    def parts(inputs, targets):
        with torch.no_grad():
            for module in before:
                inputs = module(inputs)
            outer = by_logits(head(inputs), targets)
            return [_Call(head, rules[head], inputs, outer).part(outer, len(inputs))]

    return sum_of_parts(parts)


def sum_by_layers(network: nn.Module, loss: Loss) -> ClippedSum:
    """As :func:`fedcore.training.private.clipped_sum.sum_of_parts`.

    Args:
      network: treats its examples independently.
      loss: of a batch, a sum over its examples.

    Raises:
      NotByLayers: a trainable parameter is in a layer without a rule or used twice.
    """
    rules = _rules(network)

    def parts(inputs, targets):
        with _watched(rules) as calls:
            total = loss(network, inputs, targets)
        calls = [call for call in calls if call.output.requires_grad]
        outputs = [call.output for call in calls]
        outer = torch.autograd.grad(total, outputs, allow_unused=True) if calls else []
        with torch.no_grad():
            return [
                call.part(gradient, len(inputs))
                for call, gradient in zip(calls, outer, strict=True)
                if gradient is not None
            ]

    return sum_of_parts(parts)


@dataclass(frozen=True)
class _Call:
    layer: nn.Module
    rule: Rule
    input: torch.Tensor
    output: torch.Tensor

    def part(self, outer: torch.Tensor, examples: int) -> Part:
        if not len(self.input) == len(outer) == examples:
            raise NotByLayers(f"{type(self.layer).__name__} does not see one row per example.")
        # bfloat16 values of autocast are exact in float32, where norms and sums are taken.
        dtype = torch.promote_types(outer.dtype, torch.float32)
        return self.rule(self.layer, self.input.detach().to(dtype), outer.to(dtype))


@contextmanager
def _watched(rules: Mapping[nn.Module, Rule]) -> Iterator[list[_Call]]:
    """What each layer with trainable parameters read and gave in this scope."""
    calls: list[_Call] = []
    seen: set[nn.Module] = set()

    def note(rule):
        def hook(layer, args, output):
            if layer in seen or len(args) != 1 or not isinstance(output, torch.Tensor):
                raise NotByLayers(f"{type(layer).__name__} is called twice or unusually.")
            seen.add(layer)
            calls.append(_Call(layer, rule, args[0], output))

        return hook

    hooks = [layer.register_forward_hook(note(rule)) for layer, rule in rules.items()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _rules(network: nn.Module) -> Mapping[nn.Module, Rule]:
    """The rule of each layer that owns trainable parameters, no parameter in two of them."""
    rules: dict[nn.Module, Rule] = {}
    owned: set[nn.Parameter] = set()
    for layer in network.modules():
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if not own:
            continue
        rule = rule_for(layer)
        if rule is None or not owned.isdisjoint(own):
            raise NotByLayers(f"{type(layer).__name__} has no rule or shares a parameter.")
        owned.update(own)
        rules[layer] = rule
    return rules
