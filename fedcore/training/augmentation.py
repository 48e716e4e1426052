"""Random changes of training images, drawn from a named stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fedcore.training.settings import Augmentation, LightAugmentation, NoAugmentation

if TYPE_CHECKING:
    import torch


def augmenter(
    settings: Augmentation, rng: np.random.Generator
) -> Callable[[torch.Tensor], torch.Tensor]:
    """(n, c, h, w) to changed images of the same shape; each call draws on from ``rng``.

    One affine map per image (rotation, shift, mirror), bilinear with the border repeated, then all
    values times one factor.
    """
    if isinstance(settings, NoAugmentation):
        return lambda images: images
    light = settings

    def augment(images):
        return _lightly_changed(images, light, rng)

    return augment


def _lightly_changed(
    images: torch.Tensor, light: LightAugmentation, rng: np.random.Generator
) -> torch.Tensor:
    import torch
    from torch.nn import functional

    if images.ndim != 4:
        raise ValueError(
            f"augmentation kind='light' changes images; the inputs have shape "
            f"{tuple(images.shape)}. Use none for tables."
        )
    count = len(images)
    angle = np.deg2rad(rng.uniform(-light.degrees, light.degrees, count))
    # affine_grid measures in half sides.
    shift = 2 * rng.uniform(-light.shift, light.shift, (count, 2))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if light.mirrors else np.ones(count)
    factor = 1 + rng.uniform(-light.brightness, light.brightness, count)
    theta = np.zeros((count, 2, 3))
    theta[:, 0] = np.stack([np.cos(angle) * mirror, -np.sin(angle), shift[:, 0]], axis=1)
    theta[:, 1] = np.stack([np.sin(angle) * mirror, np.cos(angle), shift[:, 1]], axis=1)
    grid = functional.affine_grid(
        torch.from_numpy(theta.astype(np.float32)).to(images.device),
        list(images.shape),
        align_corners=False,
    )
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    scale = torch.from_numpy(factor.astype(np.float32)).to(images.device)
    return moved * scale[:, None, None, None]
