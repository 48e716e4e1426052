"""Group normalisation: what replaces BatchNorm, whose running statistics cannot be averaged."""

from __future__ import annotations

import math

from torch import nn


def group_norm(channels: int, most: int = 32) -> nn.GroupNorm:
    """GroupNorm with at most ``most`` groups of at least 4 channels, when the width allows it.

    Wu and He, Group Normalization, ECCV 2018; for federated learning Hsieh et al., The Non-IID
    Data Quagmire of Decentralized Machine Learning, ICML 2020, section 5.

    >>> group_norm(16).num_groups, group_norm(64).num_groups, group_norm(6).num_groups
    (4, 16, 1)
    """
    return nn.GroupNorm(math.gcd(channels, min(most, max(1, channels // 4))), channels)
