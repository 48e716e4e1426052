"""What DP-SGD cannot be combined with, refused with the way out."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedcore.training.settings import TrainingSettings


def require_private(model: nn.Module, settings: TrainingSettings) -> None:
    """Refuse what would let a client's examples out past the mechanism.

    Raises:
      ValueError: BatchNorm, class weights, or a second bound on gradients.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise ValueError(
                f"layer {name!r} is {type(module).__name__}: it mixes the examples of a batch, so "
                "that no clipping bounds one of them, and its running statistics would leave "
                "without noise. Use torch.nn.GroupNorm instead."
            )
    if settings.class_weights != "none":
        whose = "this client's" if settings.class_weights == "client" else "all clients'"
        raise ValueError(
            f"class_weights={settings.class_weights!r} follow from {whose} label counts, which "
            "example-level privacy does not charge for; set class_weights: none."
        )
    if settings.max_grad_norm is not None:
        raise ValueError(
            f"max_grad_norm={settings.max_grad_norm:g} clips a second time, after the noise; "
            "example-level privacy clips each example at clip_norm. Set max_grad_norm: null."
        )
