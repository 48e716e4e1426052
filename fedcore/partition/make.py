"""A partition of a data set: training samples by a partitioner, other splits in proportion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.data.owners import CLIENT_ID
from fedcore.partition.by_owner import owners_of
from fedcore.partition.partition import Partition
from fedcore.partition.settings import ByOwner
from fedcore.partition.shares import Partitioner, deal, largest_remainder
from fedcore.rng import stream


class PartitionChoice(Protocol):
    """Any member of ``PartitionSettings``."""

    def build(self) -> Partitioner:
        """The partitioner."""

    def model_dump(self, *, mode: str) -> dict[str, object]:
        """The settings as a JSON value."""


def make_partition(
    dataset: Dataset,
    settings: PartitionChoice,
    seed: int,
    exclude: Mapping[str, np.ndarray] | None = None,
) -> Partition:
    """Divide every split of a data set among clients.

    Training samples go where the partitioner puts them. Of each stratum (label) of validation and
    test data every client gets a part in proportion to its share of that stratum's training
    samples; by owner, samples stay with their owner, and an owner without training samples is no
    client (its samples count only in central evaluation).

    Args:
      dataset: with a non-empty ``train``.
      settings: a member of ``PartitionSettings``.
      seed: of the run; the draw is from ``stream(seed, "partition")``.
      exclude: split -> indices that no client gets (dropped by the audit); the partition is drawn
        over the samples that remain.

    Raises:
      ValueError: a client is left with no training sample, more clients than samples, the settings
        do not fit the data, or a plug-in's partition overlaps or leaves samples out.
    """
    kept = {name: _kept(part, (exclude or {}).get(name)) for name, part in dataset.splits.items()}
    train = _take(dataset.splits["train"], kept["train"])
    parts = settings.build()(dataset.task, train, stream(seed, "partition"))
    _check(parts, len(train), f"kind={settings.model_dump(mode='json').get('kind')!r}")
    if isinstance(settings, ByOwner):
        _check_owners_kept(dataset.splits["train"], parts)
    indices = {"train": {client: kept["train"][parts[client]] for client in sorted(parts)}}
    train_strata = dataset.task.strata(train.targets)
    for name in SPLITS[1:]:
        if name not in dataset.splits:
            continue
        split = _take(dataset.splits[name], kept[name])
        if isinstance(settings, ByOwner) and split.owners is not None:
            shared = {who: at for who, at in owners_of(split).items() if who in parts}
        else:
            strata = dataset.task.strata(split.targets)
            shared = _in_proportion(strata, train_strata, parts, stream(seed, "partition", name))
        indices[name] = {who: kept[name][at] for who, at in shared.items() if len(at)}
    return Partition(indices=indices, how=settings.model_dump(mode="json"), seed=seed)


def _kept(split: Split, dropped: np.ndarray | None) -> np.ndarray:
    """(n,) int64 indices that remain."""
    everything = np.arange(len(split), dtype=np.int64)
    return everything if dropped is None else np.setdiff1d(everything, dropped)


def _take(split: Split, kept: np.ndarray) -> Split:
    """The samples that remain; the split itself, not a copy, when all do."""
    return split if len(kept) == len(split) else split.take(kept)


def _in_proportion(
    strata: np.ndarray,
    train_strata: np.ndarray,
    parts: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Client -> indices of a split, each stratum in the clients' training proportions."""
    clients = sorted(parts)
    sizes = np.array([len(parts[client]) for client in clients])
    holder = np.empty(len(train_strata), dtype=np.int64)
    for number, client in enumerate(clients):
        holder[parts[client]] = number
    present, position = np.unique(strata, return_inverse=True)
    counts = np.zeros((len(clients), len(present)), dtype=np.int64)
    for column, stratum in enumerate(present):
        held = np.bincount(holder[train_strata == stratum], minlength=len(clients))
        weights = held if held.any() else sizes
        # Ties at random: else the first clients would get the odd sample of every stratum.
        order = rng.permutation(len(clients))
        total = int((position == column).sum())
        counts[order, column] = largest_remainder(total, weights[order].astype(np.float64))
    return dict(zip(clients, deal(position, counts, rng), strict=True))


def _check(parts: Mapping[str, np.ndarray], samples: int, what: str) -> None:
    """Refuse a partition that is not one: the built-in ones never are, a plug-in's may be."""
    if not parts:
        raise ValueError(f"partition {what} made no client; it must make at least one.")
    for client in sorted(parts):
        if not CLIENT_ID.fullmatch(client):
            raise ValueError(
                f"partition {what} names a client {client!r}; ids match {CLIENT_ID.pattern}."
            )
        if len(parts[client]) == 0:
            raise ValueError(
                f"partition {what} leaves client={client!r} without a training sample; each needs "
                "at least 1. Take fewer clients or a milder skew."
            )
    everything = np.sort(np.concatenate([parts[client] for client in sorted(parts)]))
    if not np.array_equal(everything, np.arange(samples)):
        raise ValueError(
            f"partition {what} gives out {len(everything)} places for {samples} training samples, "
            "or some twice; each sample must belong to exactly one client. Mend the partitioner."
        )


def _check_owners_kept(split: Split, parts: Mapping[str, np.ndarray]) -> None:
    """Refuse a natural client that the audit's remedy has emptied."""
    lost = sorted(set(owners_of(split)) - set(parts))
    if lost:
        raise ValueError(
            f"owner={lost[0]!r} has no training sample left after the audit dropped its "
            "duplicates; a client needs at least 1. Set the audit's remedy to 'accept' or remove "
            "the owner."
        )
