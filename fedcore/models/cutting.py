"""A transformer in two at one of its blocks: views that share its layers and hold no copies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn


class Backbone(Protocol):
    """A network of ``transformers``, how it is called and what of its answer is taken."""

    network: nn.Module
    width: int

    def call(self, inputs: torch.Tensor) -> dict[str, Any]:
        """Arguments of the network for preprocessed inputs."""
        ...

    def resume(self, states: torch.Tensor) -> dict[str, Any]:
        """Arguments of a network that goes on from states (n, positions, d)."""
        ...

    def kept(self, states: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        """States as they are kept: zeros where there is only padding."""
        ...

    def features(self, answer: Any, call: Mapping[str, Any]) -> torch.Tensor:
        """Features (n, width), or what the head reads, of the network's answer."""
        ...


class Below(nn.Module):
    """From preprocessed inputs to the states that a network's block reads."""

    def __init__(self, backbone: Backbone, block: int) -> None:
        super().__init__()
        path, blocks = find_blocks(backbone.network)
        self.reader = _Reader()
        self.network = _with(
            backbone.network, {path: nn.ModuleList([*blocks[:block], self.reader])}
        )
        self._call, self._kept = backbone.call, backbone.kept

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to (n, positions, d)."""
        call = self._call(inputs)
        self.network(**call)
        return self._kept(self.reader.taken(), call)


class Above(nn.Module):
    """From the states that a network's block reads to logits."""

    def __init__(self, backbone: Backbone, block: int, head: nn.Module) -> None:
        super().__init__()
        path, blocks = find_blocks(backbone.network)
        embeddings = find_embeddings(backbone.network)
        if embeddings is None:
            raise ValueError(
                f"{type(backbone.network).__name__} has no embeddings to stand in for."
            )
        self.network = _with(
            backbone.network,
            {
                path: nn.ModuleList(blocks[block:]),
                embeddings: _standing_in(backbone.network.get_submodule(embeddings)),
            },
        )
        self.head = head
        self._resume, self._features = backbone.resume, backbone.features

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, positions, d) to (n, outputs)."""
        call = self._resume(states)
        logits: torch.Tensor = self.head(self._features(self.network(**call), call))
        return logits


def find_blocks(network: nn.Module) -> tuple[str, nn.ModuleList]:
    """Path and blocks of the network: its largest outermost list of modules.

    Raises:
      ValueError: it has none.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            lists[name] = module
    if not lists:
        raise ValueError(f"{type(network).__name__} has no list of blocks; use mode head or full.")
    return max(lists.items(), key=lambda item: sum(p.numel() for p in item[1].parameters()))


def find_embeddings(network: nn.Module) -> str | None:
    """Path of the module ``embeddings`` beside or above the blocks; None: there is none."""
    path, _ = find_blocks(network)
    parts = path.split(".")[:-1]
    for depth in range(len(parts), -1, -1):
        parent = ".".join(parts[:depth])
        if isinstance(getattr(network.get_submodule(parent), "embeddings", None), nn.Module):
            return f"{parent}.embeddings".removeprefix(".")
    return None


def can_be_cut(backbone: Backbone, example: torch.Tensor) -> bool:
    """Whether the network in two parts answers as the whole: tried, not believed.

    Architectures whose blocks read more than the states before them, or that have no embeddings to
    stand in for, are trained whole.

    Args:
      example: a few preprocessed inputs.
    """
    if find_embeddings(backbone.network) is None:
        return False
    block = (len(find_blocks(backbone.network)[1]) + 1) // 2
    was_training = backbone.network.training
    backbone.network.eval()
    try:
        with torch.no_grad():
            states = Below(backbone, block)(example)
            found = Above(backbone, block, nn.Identity())(states)
            call = backbone.call(example)
            whole = backbone.features(backbone.network(**call), call)
        # bfloat16 has 8 bits; a block too many or too few changes everything.
        return found.shape == whole.shape and torch.allclose(found, whole, rtol=0.02, atol=0.02)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        backbone.network.train(was_training)


class _Reader(nn.Module):
    """Stands after the last block that runs and takes the states that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self._states: torch.Tensor | None = None

    def forward(self, states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._states = states
        return states

    def taken(self) -> torch.Tensor:
        states, self._states = self._states, None
        if states is None:
            raise RuntimeError("no states reached the end of the blocks.")
        return states


def _standing_in(embeddings: nn.Module) -> nn.Module:
    """The module with all that it has, but giving back the states that it is given."""

    def given(*args, **kwargs):
        values = (kwargs.get("inputs_embeds"), *args, *kwargs.values())
        return next(v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point())

    return _shallow(embeddings, forward=given)


def _with(network: nn.Module, others: Mapping[str, nn.Module]) -> nn.Module:
    """The network with other modules at some paths; everything else is shared with it."""
    view = _shallow(network)
    made = {"": view}
    for path, other in others.items():
        *parents, last = path.split(".")
        here = ""
        for name in parents:
            above, here = here, f"{here}.{name}".removeprefix(".")
            if here not in made:
                made[here] = _shallow(made[above].get_submodule(name))
                made[above]._modules[name] = made[here]
        made[here]._modules[last] = other
    return view


def _shallow(module: nn.Module, forward: Callable[..., Any] | None = None) -> nn.Module:
    """Another module with the same parameters and children, in evaluation mode itself."""
    view = copy.copy(module)
    view._modules = dict(module._modules)
    view.training = False
    if forward is not None:
        view.forward = forward
    return view
