"""Models that begin with what never changes: it runs once per input, only the rest is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Cut:
    """A model in two: its logits are ``head(backbone(below(inputs)))``.

    Attributes:
      backbone: frozen and in evaluation mode, from one input each to features (n, ...). Where
        features are sequences (n, positions, d), those of padding are zeros.
      head: everything after it, from features to logits (n, outputs).
      below: as ``backbone``, before it: what never changes and whose features serve other cuts of
        the model too. None: the backbone reads the inputs.
      travelling: tensors of ``backbone`` that a round may bring anew, though this one does not
        train them, by name; all others never change while it lives.
    """

    backbone: nn.Module
    head: nn.Module
    below: nn.Module | None = None
    travelling: Mapping[str, torch.Tensor] = field(default_factory=dict)


@runtime_checkable
class CanBeCut(Protocol):
    """A module that tells how far it is frozen."""

    def cut(self) -> Cut | None:
        """Before the first layer with something to train now; None: nothing is before it.

        The modules of two equal cuts are the same objects.
        """
        ...


def on_frozen_backbone(model: object) -> Cut | None:
    """``model`` in two, by what of it is trainable now, or None."""
    return model.cut() if isinstance(model, CanBeCut) else None
