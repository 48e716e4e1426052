"""A loaded data set: splits of inputs and targets, what is learned, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fedcore.digests import digest_arrays, digest_json
from fedcore.task import Task

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Samples of one split, in the source's order.

    Attributes:
      inputs: images (n, height, width, channels) uint8, tables (n, columns) float32, or texts
        (n, most_bytes) uint8 (:mod:`fedcore.data.text_bytes`).
      targets: as in :class:`fedcore.task.TaskKind`.
      owners: (n,) str, the natural client of each sample, or None.
      groups: (n,) str, the group of persons of each sample, or None; for budgets of privacy.
    """

    inputs: np.ndarray
    targets: np.ndarray
    owners: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: np.ndarray) -> Split:
        """The samples at ``indices``, in that order."""
        owners = None if self.owners is None else self.owners[indices]
        groups = None if self.groups is None else self.groups[indices]
        return Split(self.inputs[indices], self.targets[indices], owners, groups)


@dataclass(frozen=True)
class Dataset:
    """Everything a run needs to know about its data.

    Attributes:
      name: short name for run names and tags, e.g. ``pneumoniamnist``.
      task: what is learned.
      splits: ``train`` always; ``val`` and ``test`` where there are any (never empty).
      features: JSON description of one input. Images: ``{"kind": "image", "shape": [h, w, c]}``.
        Tables: ``{"kind": "table", "names": [...], "encoding": {...}}`` where the encoding turns a
        raw DataFrame into ``inputs`` (:class:`fedcore.data.encoding.TableEncoding`).
        Texts: ``{"kind": "text", "most_bytes": n}``.
      provenance: JSON: files with checksums, source, licence, declared split sizes.
    """

    name: str
    task: Task
    splits: Mapping[str, Split]
    features: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that can change a result: content, task and features; no paths."""
        content = {
            split: digest_arrays(
                {"inputs": part.inputs, "targets": part.targets}
                | {
                    name: np.char.encode(texts.astype(str), "utf-8")
                    for name, texts in (("owners", part.owners), ("groups", part.groups))
                    if texts is not None
                }
            )
            for split, part in self.splits.items()
        }
        return digest_json([content, self.task.to_json(), dict(self.features)])

    @property
    def kind(self) -> str:
        """What one input is: ``image``, ``table`` (a row of one) or ``text``."""
        return str(self.features["kind"])
