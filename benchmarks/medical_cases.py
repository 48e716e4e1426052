"""The cases that are compared on Medical Abstracts: changes to the shipped configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import Measured, config_of

CONFIG = "medical-abstracts"
ONE = {"partition.kind": "iid", "partition.clients": 1, "rounds.min_clients": 1}
# Passes of one client over everything: of the probe, and of central training, the last four with
# adapters. After ten of those its loss on fold 0 rises and its accuracy falls.
PROBE_ROUNDS, CENTRAL_ROUNDS = 30, 19
PASSES = {**ONE, "training.batch_size": 16, "training.epochs": 1, "training.steps": None}
# Clipped gradients are short and their noise is even over parameters: plain SGD, large steps.
PRIVATE = {
    "privacy.kind": "example",
    "privacy.epsilon": 8.0,
    "privacy.delta": 1e-5,
    "training.optimizer": "sgd",
    "training.weight_decay": 0.0,
    "training.head_learning_rate": 0.6,
    "training.learning_rate": 0.6,
    "training.epochs": None,
    "rounds.count": 17,
}
SILOS = {"training.batch_size": 64, "training.steps": 4}
WHOLE = {"training.batch_size": 1024, "training.steps": 6}
PRIVATE_FOLDS = 3


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
      changes: to the shipped configuration.
      twin: name of the case that it is compared with.
      least: part of the twin's mean accuracy that the issue asks for.
      most_lost: accuracy below the twin's that the issue allows.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    twin: str = ""
    least: float | None = None
    most_lost: float | None = None


CENTRAL, PROBE, FEDERATED = "central", "linear probe", "federated"
CASES = {
    PROBE: Case(
        {
            **PASSES,
            "rounds.count": PROBE_ROUNDS,
            "training.head_rounds": PROBE_ROUNDS,
            "training.head_learning_rate": 0.0003,
            "training.weight_decay": 3.0,
        },
    ),
    CENTRAL: Case({**PASSES, "rounds.count": CENTRAL_ROUNDS}),
    FEDERATED: Case({}, CENTRAL, least=0.97),
    "federated, frozen A": Case({"aggregation.adapters.kind": "frozen_a"}, CENTRAL, least=0.95),
}
PRIVATE_CASES = {
    "central, epsilon 8": Case({**ONE, **PRIVATE, **WHOLE}, CENTRAL, most_lost=0.03),
    "federated, epsilon 8": Case({**PRIVATE, **SILOS}, FEDERATED, most_lost=0.05),
}
AGAINST_PROBE = (FEDERATED, "federated, frozen A")
Runs = dict[str, list[Measured]]


def of_fold(case: Case, fold: int) -> dict[str, Any]:
    """The case's changes on a fold, whose number is the seed too; the last model alone is tested.

    >>> of_fold(Case({"rounds.count": 30}), 2)["evaluation.every"]
    30
    """
    changes = {**case.changes, "data.fold": fold, "seed": fold}
    rounds = config_of(CONFIG, changes).rounds.count
    return {**changes, "evaluation.every": rounds}
