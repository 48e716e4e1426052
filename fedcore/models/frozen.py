"""Models whose backbone never changes: its features are computed once, only the head is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class HeadOnBackbone(Protocol):
    """A module whose logits are ``head(backbone(inputs))``.

    Attributes:
      backbone: from one input each to features (n, d), in evaluation mode.
      head: from features to logits (n, outputs).
      has_frozen_backbone: whether only the head is trained, so that features can be kept.
    """

    @property
    def backbone(self) -> nn.Module: ...

    @property
    def head(self) -> nn.Module: ...

    @property
    def has_frozen_backbone(self) -> bool: ...


def on_frozen_backbone(model: object) -> HeadOnBackbone | None:
    """``model`` as a head on a backbone that never changes, or None."""
    return model if isinstance(model, HeadOnBackbone) and model.has_frozen_backbone else None
