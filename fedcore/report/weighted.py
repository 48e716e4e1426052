"""Metrics of resampled data: accuracy, AUC and error where each sample counts several times.

The same definitions as :func:`fedcore.evaluation.measure` on the repeated samples, prepared once so
that a thousand resamples cost a thousand sums.
"""

from __future__ import annotations

import numpy as np

from fedcore.evaluation import perplexity
from fedcore.report.bootstrap import Statistic
from fedcore.task import Task, TaskKind


def weighted_metrics(task: Task, scores: np.ndarray, targets: np.ndarray) -> dict[str, Statistic]:
    """Metric name -> statistic of how often each sample was drawn.

    Args:
      task: what was learned.
      scores: (n, outputs) as ``task.scores`` gives.
      targets: as in :class:`fedcore.task.TaskKind`.

    Returns:
      ``accuracy`` and ``auc``; for regression ``mean_absolute_error``; for language ``accuracy`` of
      the next token and ``perplexity``, where whole texts are drawn.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if len(scores) != len(targets):
        raise ValueError(f"{len(scores)} scores for {len(targets)} targets; they must pair up.")
    if task.kind is TaskKind.REGRESSION:
        return {"mean_absolute_error": mean(np.abs(scores[:, 0] - targets))}
    if task.kind is TaskKind.LANGUAGE:
        likelihood, tokens, hits = scores.T
        loss = ratio(-likelihood, tokens)
        return {
            "accuracy": ratio(hits, tokens),
            "perplexity": lambda counts: perplexity(loss(counts)),
        }
    right = task.predict(scores) == targets
    metrics = {"accuracy": mean(right.mean(axis=1) if right.ndim == 2 else right)}
    if task.kind is TaskKind.BINARY:
        return metrics | {"auc": auc([(scores[:, 0], targets == 1)])}
    if task.kind is TaskKind.MULTILABEL:
        return metrics | {
            "auc": auc([(s, t == 1) for s, t in zip(scores.T, targets.T, strict=True)])
        }
    return metrics | {"auc": auc([(s, targets == label) for label, s in enumerate(scores.T)])}


def mean(values: np.ndarray) -> Statistic:
    """The mean of one value per sample, (n,)."""
    values = np.asarray(values, dtype=np.float64)
    return lambda counts: float(counts @ values / counts.sum())


def ratio(above: np.ndarray, below: np.ndarray) -> Statistic:
    """The sum of one value per sample, (n,), over that of another one; NaN where that is zero."""

    def statistic(counts):
        whole = counts @ below
        return float(counts @ above / whole) if whole else float("nan")

    return statistic


def auc(columns: list[tuple[np.ndarray, np.ndarray]]) -> Statistic:
    """The mean over columns of the area under the ROC curve; columns with one class do not count.

    The chance that a positive scores above a negative, ties counting half (Mann and Whitney 1947).

    Args:
      columns: (scores (n,), is positive (n,) bool) of each label against the rest.
    """
    areas = [_area(scores, positive) for scores, positive in columns]

    def statistic(counts):
        defined = [value for area in areas if not np.isnan(value := area(counts))]
        return float(np.mean(defined)) if defined else float("nan")

    return statistic


def _area(scores: np.ndarray, positive: np.ndarray) -> Statistic:
    _, level = np.unique(scores, return_inverse=True)
    num_levels = int(level.max()) + 1
    positive = np.asarray(positive, dtype=np.float64)

    def statistic(counts):
        up = np.bincount(level, counts * positive, minlength=num_levels)
        down = np.bincount(level, counts * (1.0 - positive), minlength=num_levels)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down
        return float(up @ (below + 0.5 * down) / pairs) if pairs else float("nan")

    return statistic
