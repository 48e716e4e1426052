"""A run against the champion of its registered model: overall, per client, worst, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore import rng
from fedcore.evaluation import HIGHER_IS_BETTER, summarise
from fedcore.report.bootstrap import Interval, bootstrap_interval, paired_bootstrap_difference
from fedcore.report.weighted import weighted_metrics
from fedcore.task import Task, TaskKind
from tasks.registry import tags
from tasks.registry.artifacts import read_run
from tasks.registry.finished_run import CentralScores, FinishedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
      place: ``overall``, ``worst client`` or a client id.
      metric: name of the metric.
      challenger, champion: the two values, None where undefined.
      difference: paired interval of challenger minus champion, or None.
    """

    place: str
    metric: str
    challenger: float | None
    champion: float | None
    difference: Interval | None = None


@dataclass(frozen=True)
class Comparison:
    """What is known about challenger and champion.

    Attributes:
      champion: its version number, or None when there is no champion yet.
      not_comparable: why no rows are given, or empty.
      rows: on the test split.
    """

    champion: str | None
    not_comparable: str = ""
    rows: tuple[Row, ...] = field(default=())

    @property
    def verdict(self) -> str:
        """One sentence; better or worse is claimed only where a paired interval excludes zero."""
        if self.champion is None:
            return "There is no champion yet."
        if self.not_comparable:
            return f"Not comparable with champion {self.champion}: {self.not_comparable}"
        found = [row for row in self.rows if row.difference is not None]
        if not found:
            return f"No paired interval against champion {self.champion}: no common test scores."
        said = []
        for row in found:
            gain = row.difference.estimate * (1 if HIGHER_IS_BETTER[row.metric] else -1)
            word = "better" if gain > 0 else "worse"
            word = word if row.difference.excludes_zero else "no clear difference"
            said.append(f"{row.metric}: {word} ({row.difference})")
        return f"Against champion {self.champion}, challenger minus champion: {'; '.join(said)}."


def compare_with_champion(client: MlflowClient, run: FinishedRun) -> Comparison:
    """The comparison with the version that has the alias ``champion`` now."""
    version = client.get_registered_model(run.model_name).aliases.get(tags.CHAMPION)
    if version is None:
        return Comparison(None)
    champion = client.get_model_version(run.model_name, version)
    if tags.RUN_ID not in champion.tags or not champion.run_id:
        return Comparison(str(version), "it was not made by Fedloom.")
    theirs, ours = champion.tags.get(tags.DATASET_FINGERPRINT), run.tags[tags.DATASET_FINGERPRINT]
    if theirs != ours:
        reason = f"it was tested on other data (fingerprint {str(theirs)[:12]}, here {ours[:12]})."
        return Comparison(str(version), reason)
    other = read_run(client, champion.run_id)
    if run.task.kind is TaskKind.LANGUAGE and _tokens(run.header) != _tokens(other.header):
        reason = "its perplexity is of other tokens (another tokenizer, or another max_tokens)."
        return Comparison(str(version), reason)
    measured, baseline = run.evaluation.get("test") or {}, other.evaluation.get("test") or {}
    if not measured or not baseline:
        return Comparison(str(version), "one of the two was not measured on a test split.")
    differences = paired_differences(run.task, run.test, other.test, seed=run.config["seed"])
    return Comparison(str(version), rows=tuple(comparison_rows(measured, baseline, differences)))


def _tokens(header: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a language task's scores are counted in."""
    return header["preprocess"].get("tokenizer"), header["preprocess"].get("max_tokens")


def paired_differences(
    task: Task, ours: CentralScores | None, theirs: CentralScores | None, *, seed: int
) -> dict[str, Interval]:
    """Metric -> paired interval on common test samples; empty where they are not the same ones."""
    if ours is None or theirs is None or not np.array_equal(ours.targets, theirs.targets):
        return {}
    mine = weighted_metrics(task, ours.scores, ours.targets)
    baseline = weighted_metrics(task, theirs.scores, theirs.targets)
    return {
        metric: paired_bootstrap_difference(
            mine[metric],
            baseline[metric],
            len(ours.targets),
            rng=rng.stream(seed, "bootstrap", "paired", metric),
            num_resamples=NUM_RESAMPLES,
        )
        for metric in mine
        if not np.isnan(mine[metric](np.ones(len(ours.targets))))
    }


def score_intervals(run: FinishedRun) -> dict[str, Interval]:
    """Metric -> interval on the central test data; empty where there are no scores."""
    if run.test is None:
        return {}
    size = len(run.test.targets)
    return {
        metric: bootstrap_interval(
            statistic,
            size,
            rng=rng.stream(run.config["seed"], "bootstrap", "single", metric),
            num_resamples=NUM_RESAMPLES,
        )
        for metric, statistic in weighted_metrics(
            run.task, run.test.scores, run.test.targets
        ).items()
        if not np.isnan(statistic(np.ones(size)))
    }


def comparison_rows(
    measured: Mapping[str, Any],
    baseline: Mapping[str, Any],
    differences: Mapping[str, Interval],
) -> list[Row]:
    """Overall and worst client by every metric, then each client by the first metric."""
    ours, theirs = measured.get("overall") or {}, baseline.get("overall") or {}
    metrics = [name for name in HIGHER_IS_BETTER if name in ours or name in theirs]
    rows = [
        Row("overall", name, ours.get(name), theirs.get(name), differences.get(name))
        for name in metrics
    ]
    clients, others = measured.get("clients") or {}, baseline.get("clients") or {}
    for name in metrics:
        worst, theirs_worst = summarise(clients, name), summarise(others, name)
        if worst or theirs_worst:
            values = (found[1] if found else None for found in (worst, theirs_worst))
            rows.append(Row("worst client", name, *values))
    for client in sorted({*clients, *others}):
        for name in metrics[:1]:
            pair = (each.get(client, {}).get(name) for each in (clients, others))
            rows.append(Row(client, name, *pair))
    return rows
