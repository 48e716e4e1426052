"""Low-rank adapters in a network, by PEFT: put in, given another rank, corrected by the server.

https://huggingface.co/docs/peft/package_reference/lora
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from fedcore.adapters.layers import Layer
from fedcore.adapters.scaling import Scaling
from fedcore.models.adapter_settings import AdapterSettings
from fedcore.models.cutting import find_blocks
from fedcore.models.frozen_linear import FrozenLinear, is_linear, takes_correction
from fedcore.tensors import Arrays

# What attention calls its queries and values, in the order in which they are looked for.
KNOWN_TARGETS = (
    *(("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v")),
    *(("qkv",), ("query_key_value",), ("Wqkv",), ("c_attn",), ("in_proj",)),
)
ADAPTER = "default"


def add_adapters(network: nn.Module, settings: AdapterSettings) -> int:
    """Puts adapters into the network's top blocks, freezes all else; the first such block.

    Hu et al., LoRA, ICLR 2022; DoRA: Liu et al., ICML 2024. The second factor starts at zero, so
    that the network is what it was.

    Raises:
      ValueError: ``layers`` or ``targets`` are not there.
    """
    from peft import LoraConfig, inject_adapter_in_model

    path, blocks = find_blocks(network)
    first = len(blocks) - (settings.layers or len(blocks))
    if first < 0:
        raise ValueError(
            f"adapter.layers={settings.layers} is more than the {len(blocks)} blocks of "
            f"{type(network).__name__}; lower it or leave it empty for all."
        )
    targets = [
        f"{path}.{first + number}.{name}"
        for number, block in enumerate(blocks[first:])
        for name in _targets(block, settings.targets)
    ]
    network.requires_grad_(False)
    for target in targets:
        # Before PEFT sees them: it takes them for what they are, never for a Conv1D.
        if takes_correction(layer := network.get_submodule(target)):
            network.set_submodule(target, FrozenLinear.of(layer))
    alpha: Any = settings.alpha  # declared a whole number, used as any
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=alpha,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
    )
    inject_adapter_in_model(config, network, adapter_name=ADAPTER)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return first


def adapted(model: nn.Module) -> Iterator[tuple[Layer, Any]]:
    """The layers that have an adapter, with their names in ``model``."""
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and hasattr(module, "base_layer"):
            yield Layer(name), module


def carried(model: nn.Module) -> dict[str, torch.Tensor | None]:
    """The corrections of frozen weights by name, None where there is none."""
    return {
        layer.residual: module.base_layer.residual
        for layer, module in adapted(model)
        if isinstance(module.base_layer, FrozenLinear)
    }


def fit_adapters(model: nn.Module, params: Arrays, scaling: Scaling) -> None:
    """Gives each adapter the rank, and each frozen weight the correction, that ``params`` have.

    The factors' values are left to whoever loads them; a weight without a correction loses the one
    it had.

    Raises:
      ValueError: a correction of another shape than its weight, or of a weight that takes none.
    """
    for layer, module in adapted(model):
        factor = params.get(layer.a)
        if factor is not None and factor.ndim == 2:
            _set_rank(module, len(factor), scaling)
        given = params.get(layer.residual)
        base = module.base_layer
        if not isinstance(base, FrozenLinear):
            if given is not None:
                raise ValueError(
                    f"{layer.residual!r}: a {type(base).__name__} takes no correction; take "
                    "aggregation.adapters.kind mean, frozen_a, alternating or svd."
                )
            continue
        if given is None:
            base.residual = None
            continue
        if given.shape != tuple(base.weight.shape):
            raise ValueError(
                f"state[{layer.residual!r}] has shape {given.shape}; it must be "
                f"{tuple(base.weight.shape)}."
            )
        base.residual = torch.tensor(given, dtype=torch.float32, device=base.weight.device)


def _set_rank(module: Any, rank: int, scaling: Scaling) -> None:
    """New factors of this rank; what reads them asks their shapes, not the layers' own numbers."""
    a, b = module.lora_A[ADAPTER], module.lora_B[ADAPTER]
    if len(a.weight) == rank:
        return
    for factor, shape in ((a, (rank, a.in_features)), (b, (b.out_features, rank))):
        old = factor.weight
        factor.weight = nn.Parameter(old.new_zeros(shape), requires_grad=old.requires_grad)
    module.r[ADAPTER], module.scaling[ADAPTER] = rank, scaling(rank)


def _targets(block: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Paths of the linear layers in a block that get an adapter."""
    linear = [name for name, module in block.named_modules() if is_linear(module)]
    if wanted:
        found = [name for name in linear if _ends(name, wanted)]
        missing = [end for end in wanted if not any(_ends(name, [end]) for name in linear)]
        if missing:
            raise ValueError(
                f"adapter.targets={missing}: a block has only the linear layers {linear}."
            )
        return found
    for known in KNOWN_TARGETS:
        if all(any(_ends(name, [end]) for name in linear) for end in known):
            return [name for name in linear if _ends(name, known)]
    if not linear:
        raise ValueError(f"{type(block).__name__} has no linear layer for an adapter.")
    return linear


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)
