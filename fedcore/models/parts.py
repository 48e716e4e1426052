"""The parts of a model, by the names of its tensors: what can be trained apart from the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedcore.adapters.layers import FACTOR_A, FACTOR_B, RESIDUAL

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import nn

PARTS = ("body", "head", "lora_A", "lora_B")

_ENDS = {FACTOR_A: "lora_A", FACTOR_B: "lora_B", RESIDUAL: "residual"}


def part_of(name: str) -> str:
    """One of ``PARTS``, or ``residual``: what clients are sent and never train.

    >>> [part_of(f"q{end}") for end in (FACTOR_A, FACTOR_B, RESIDUAL)]
    ['lora_A', 'lora_B', 'residual']
    >>> part_of("head.1.bias"), part_of("blocks.0.weight")
    ('head', 'body')
    """
    for end, part in _ENDS.items():
        if name.endswith(end):
            return part
    return "head" if name.startswith("head.") else "body"


@contextmanager
def training_only(model: nn.Module, parts: Collection[str] | None) -> Iterator[None]:
    """In this scope only these parts of what is trainable are; None: all.

    Raises:
      ValueError: the model has none of them to train.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    still = [p for n, p in trained.items() if parts is not None and part_of(n) not in parts]
    if len(still) == len(trained):
        raise ValueError(
            f"parts={sorted(parts or ())}: the model trains only "
            f"{sorted({part_of(name) for name in trained})}; nothing would be trained."
        )
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)
