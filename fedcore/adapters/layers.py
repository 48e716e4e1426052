"""The adapted layers of a model, found by the names that PEFT gives the adapter ``default``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fedcore.adapters.rule import Part

FACTOR_A, FACTOR_B = f".{Part.A}.default.weight", f".{Part.B}.default.weight"
RESIDUAL = ".base_layer.residual"  # beside the frozen weight, in the layer that PEFT wraps


@dataclass(frozen=True, order=True)
class Layer:
    """A layer of weight ``W + residual + scaling B A`` (Hu et al., LoRA, ICLR 2022, eq. 3)."""

    name: str

    @property
    def a(self) -> str:
        """Name of A, (rank, inputs)."""
        return self.name + FACTOR_A

    @property
    def b(self) -> str:
        """Name of B, (outputs, rank)."""
        return self.name + FACTOR_B

    @property
    def residual(self) -> str:
        """Name of what is carried beside the frozen weight, (outputs, inputs), and not trained."""
        return self.name + RESIDUAL


def layers_of(names: Collection[str]) -> tuple[Layer, ...]:
    """The adapted layers, sorted by name.

    Raises:
      ValueError: one factor of a layer without the other.

    >>> layers_of(["head.bias", "q.lora_B.default.weight", "q.lora_A.default.weight"])
    (Layer(name='q'),)
    """
    first, second = (
        {name.removesuffix(end) for name in names if name.endswith(end)}
        for end in (FACTOR_A, FACTOR_B)
    )
    if first != second:
        raise ValueError(
            f"tensors of layers {sorted(first ^ second)} hold one factor of an adapter without the "
            f"other; each needs {Part.A} and {Part.B}."
        )
    return tuple(Layer(name) for name in sorted(first))
