"""The value that says which samples each client holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedcore.digests import digest_arrays, digest_json


@dataclass(frozen=True)
class Partition:
    """Client id -> sample indices, for each split.

    Attributes:
      indices: split -> client id -> (n,) int64 sorted indices into that split of the data set.
        ``train`` covers every client; a client may lack ``val`` or ``test``.
      how: JSON: the partitioner's settings, dumped.
      seed: the run seed it was drawn from.
    """

    indices: Mapping[str, Mapping[str, np.ndarray]]
    how: Mapping[str, Any]
    seed: int

    @property
    def clients(self) -> tuple[str, ...]:
        """Client ids in canonical (sorted) order."""
        return tuple(sorted(self.indices["train"]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the indices of all splits and clients."""
        return digest_json(
            {split: digest_arrays(dict(clients)) for split, clients in self.indices.items()}
        )
