"""Cross-validation of a configuration inside each client's own training rows; test rows stay out.

The folds are data sets of their own, run by the same plan, rounds and engine as any run.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedcore.audit.audit import audit, require_passed
from fedcore.chain import Chain
from fedcore.config import RunConfig, make_config
from fedcore.data.dataset import Dataset, Split
from fedcore.engines.in_process import InProcessEngine
from fedcore.events import silent
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.rng import stream
from fedcore.rounds import run_rounds
from fedcore.store import Store
from fedcore.task import Task
from tasks.home import data_folder


@dataclass(frozen=True)
class Validated:
    """Scores on the rows that each fold's model did not train on.

    Attributes:
      accuracy: over all rows of all clients, mean over the repeats.
      loss: the same of the log loss.
      repeats: accuracy of each repeat.
    """

    accuracy: float
    loss: float
    repeats: tuple[float, ...]


def folds_of(split: Split, task: Task, folds: int, seed: int) -> np.ndarray:
    """(n,) int64 fold of each row: owners and labels are spread evenly, by the stream ``folds``."""
    owners = np.zeros(len(split)) if split.owners is None else split.owners
    _, owner = np.unique(owners, return_inverse=True)
    strata = task.strata(split.targets)
    order = stream(seed, "folds").permutation(len(split))
    order = order[np.lexsort((strata[order], owner[order]))]
    numbers = np.empty(len(split), dtype=np.int64)
    numbers[order] = np.arange(len(split)) % folds
    return numbers


def fold_datasets(dataset: Dataset, config: RunConfig, folds: int, seed: int) -> Iterator[Dataset]:
    """The training split, cut ``folds`` times into train and val; no test split."""
    dropped = require_passed(audit(dataset, config.audit)).exclusions.get("train", [])
    whole = dataset.splits["train"]
    train = whole.take(np.setdiff1d(np.arange(len(whole)), dropped))
    numbers = folds_of(train, dataset.task, folds, seed)
    for fold in range(folds):
        held, kept = np.flatnonzero(numbers == fold), np.flatnonzero(numbers != fold)
        yield replace(
            dataset,
            name=f"{dataset.name}-fold-{fold}",
            splits={"train": train.take(kept), "val": train.take(held)},
        )


def cross_validate(
    config: RunConfig, folder: Path, *, folds: int = 5, repeats: int = 1
) -> Validated:
    """Out-of-fold accuracy and loss of a configuration's last round.

    Args:
      folder: of the store whose memo answers what was done before.
      repeats: how often the folds are drawn anew; repeat r also trains with the run's seed + r.
    """
    dataset = config.data.load(data_folder())
    store = Store(folder / "store")
    engine = InProcessEngine(store, folder / "cache")
    accuracies, losses = [], []
    for repeat in range(repeats):
        values = config.model_dump(mode="json")
        own = make_config(
            values,
            {
                "seed": config.seed + repeat,
                "evaluation.splits": ["val"],
                "evaluation.clients": False,
                "evaluation.every": config.rounds.count,
                "evaluation.choose": "last",
            },
        )
        rows: list[tuple[float, float, int]] = []
        for part in fold_datasets(dataset, own, folds, repeat):
            partition = make_partition(part, own.partition, own.seed)
            plan = prepare(own, part, partition, store)
            chain = Chain(store, f"fold-{secrets.token_hex(8)}")
            chain.begin(plan.header())
            *_, last = run_rounds(plan, chain, engine, silent)
            found = last.metrics["val"]["overall"]
            rows.append((found["accuracy"], found["loss"], found["num_examples"]))
        sizes = [size for _, _, size in rows]
        accuracies.append(float(np.average([row[0] for row in rows], weights=sizes)))
        losses.append(float(np.average([row[1] for row in rows], weights=sizes)))
    return Validated(float(np.mean(accuracies)), float(np.mean(losses)), tuple(accuracies))
