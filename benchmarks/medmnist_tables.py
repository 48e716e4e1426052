"""Lines that the benchmarks of MedMNIST sets have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Measured
from benchmarks.report import spread
from fedcore.data.medmnist import catalogue, task_of
from fedcore.report.bootstrap import Interval, bootstrap_interval
from fedcore.report.weighted import weighted_metrics
from fedcore.rng import stream

HEADER = ("", "accuracy", "AUC", "balanced accuracy", "chosen rounds", "training, s")


def line(name: str, runs: Sequence[Measured]) -> list[Any]:
    """A configuration over its seeds: mean and standard deviation on the test split."""
    return [
        name,
        spread([run.test("accuracy") for run in runs]),
        spread([run.test("auc") for run in runs]),
        spread([run.test("balanced_accuracy") for run in runs]),
        ", ".join(str(run.round) for run in runs),
        f"{np.mean([run.seconds for run in runs]):.0f}",
    ]


def seed_lines(runs: Sequence[Measured]) -> list[list[Any]]:
    """One line per seed, with what chose the round and the weakest client."""
    rows = []
    for run in runs:
        clients = run.metrics["test"]["clients"]
        worst = min(clients, key=lambda client: clients[client]["accuracy"], default=None)
        rows.append(
            [
                run.seed,
                run.test("accuracy"),
                run.test("auc"),
                run.metrics["val"]["overall"]["accuracy"],
                run.metrics["val"]["overall"].get("auc"),
                run.round,
                f"{worst} {clients[worst]['accuracy']:.3f}" if worst else None,
                run.config[:12],
                run.final[:12],
            ]
        )
    return rows


SEED_HEADER = (
    "seed",
    "test accuracy",
    "test AUC",
    "val accuracy",
    "val AUC",
    "round",
    "worst client, accuracy",
    "config",
    "final digest",
)


def mean_interval(dataset: str, runs: Sequence[Measured], metric: str) -> Interval:
    """95 % bootstrap interval of the mean over seeds of a test metric; test images resampled."""
    task = task_of(catalogue()[dataset])
    each = [
        weighted_metrics(task, run.scores, run.targets)[metric]
        for run in runs
        if run.scores is not None and run.targets is not None
    ]
    if runs[0].targets is None:
        raise ValueError(f"the runs of {dataset} kept no scores of a central test split.")
    return bootstrap_interval(
        lambda counts: float(np.mean([statistic(counts) for statistic in each])),
        len(runs[0].targets),
        rng=stream(0, "bootstrap", metric),
    )
