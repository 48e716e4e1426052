"""Membership inference with shadow models: the likelihood-ratio attack.

Carlini, Chien, Nasr, Song, Terzis, Tramer, Membership Inference Attacks From First Principles,
IEEE S&P 2022. https://arxiv.org/abs/2112.03570

Every model is trained on a random half of the records; each is attacked in turn with all others
as its shadows, so that k models give k times n guesses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fedcore.report.bootstrap import Interval, Statistic, bootstrap_interval
from fedcore.report.weighted import auc
from fedcore.task import Task, TaskKind

OWN_VARIANCE_FROM = 64
"""With fewer shadow models all records share one variance (the paper, section VI.C)."""
FALSE_POSITIVE_RATES = (0.001, 0.01)

Trainer = Callable[[np.ndarray, int], np.ndarray]
"""``trainer(members, shadow)``: logits (n, outputs) on all n records of a model trained on the
records where ``members`` (n,) is true; ``shadow`` numbers the models from 0 and separates their
random streams."""


@dataclass(frozen=True)
class Membership:
    """How well the attack tells members from others, with intervals over records.

    Attributes:
      auc: area under the ROC curve; 0.5 tells nothing.
      tpr: false-positive rate -> true-positive rate at it.
      models: models that were trained and attacked.
      records: n.
      kind: which of the two attacks.
    """

    auc: Interval
    tpr: dict[float, Interval]
    models: int
    records: int
    kind: str

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self) | {
            "tpr": {str(rate): asdict(found) for rate, found in self.tpr.items()}
        }


def lira(
    trainer: Trainer,
    targets: np.ndarray,
    *,
    task: Task,
    rng: np.random.Generator,
    models: int = 24,
    kind: Literal["online", "offline"] = "online",
    num_resamples: int = 300,
) -> Membership:
    """Trains the models, attacks each with the others and measures the attack.

    Args:
      trainer: see :data:`Trainer`.
      targets: shape (n,), of the records.
      task: binary, multiclass or ordinal.
      rng: who is a member, and the intervals.
      models: trained in all, even, at least 6.
      kind: online compares with shadows trained with and without the record, offline only with
        those without.
      num_resamples: of the bootstrap.

    Raises:
      ValueError: too few models or records, a task without a confidence, logits not finite.
    """
    if len(targets) < 10:
        raise ValueError(f"{len(targets)} records: too few for an attack's rates; take 10 or more.")
    members = draw_members(models, len(targets), rng)
    confidences = np.stack([
        log_odds(trainer(row, shadow), targets, task) for shadow, row in enumerate(members)
    ])  # fmt: skip
    scores = likelihood_ratios(confidences, members, kind)
    return measure_membership(scores, members, kind, rng=rng, num_resamples=num_resamples)


def draw_members(models: int, records: int, rng: np.random.Generator) -> np.ndarray:
    """Shape (models, records) bool: each record is in exactly half of the models.

    Raises:
      ValueError: an odd number of models, or fewer than 6.
    """
    if models < 6 or models % 2:
        raise ValueError(f"models={models}: shadow models are an even number, at least 6.")
    return rng.random((models, records)).argsort(axis=0) < models // 2


def log_odds(logits: np.ndarray, targets: np.ndarray, task: Task) -> np.ndarray:
    """``log(p / (1 - p))`` of the true label's probability, computed without cancellation.

    Section VI.A of the paper: this makes confidences nearly Gaussian.

    Args:
      logits: shape (n, outputs).
      targets: shape (n,).

    >>> task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
    >>> log_odds(np.array([[2.0, 0.0, 0.0]]), np.array([0]), task).round(4)  # 2 - log 2
    array([1.3069])
    """
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("logits have values that are not finite; did a shadow model diverge?")
    if task.kind is TaskKind.BINARY:
        return logits[:, 0] * (2 * targets - 1)
    if task.kind not in (TaskKind.MULTICLASS, TaskKind.ORDINAL):
        raise ValueError(
            f"LiRA needs one label per record; the task is {task.kind.value}. "
            "Audit it with the one-run audit."
        )
    rows = np.arange(len(targets))
    others = logits.copy()
    others[rows, targets] = -np.inf
    top = others.max(axis=1, keepdims=True)
    return logits[rows, targets] - (top[:, 0] + np.log(np.exp(others - top).sum(axis=1)))


def likelihood_ratios(
    confidences: np.ndarray, members: np.ndarray, kind: Literal["online", "offline"]
) -> np.ndarray:
    """Shape (models, n): how much more likely each confidence is of a member, model by model.

    Algorithm 1 of the paper with Gaussians fitted to the other models. Online: the log of the
    ratio of the two densities. Offline (section IV.C): the standardised distance above the models
    without the record, which orders records as its one-sided test does.

    Args:
      confidences: shape (models, n), of :func:`log_odds`.
      members: shape (models, n) bool.
    """
    scores = np.empty_like(confidences)
    for model in range(len(confidences)):
        others = np.arange(len(confidences)) != model
        inside, outside = members & others[:, None], ~members & others[:, None]
        mean_in, spread_in = _fit(confidences, inside)
        mean_out, spread_out = _fit(confidences, outside)
        from_out = (confidences[model] - mean_out) / spread_out
        if kind == "offline":
            scores[model] = from_out
        else:
            from_in = (confidences[model] - mean_in) / spread_in
            scores[model] = 0.5 * (from_out**2 - from_in**2) + np.log(spread_out / spread_in)
    return scores


def measure_membership(
    scores: np.ndarray,
    members: np.ndarray,
    kind: str,
    *,
    rng: np.random.Generator,
    num_resamples: int = 300,
) -> Membership:
    """AUC and true-positive rates, with intervals that resample records over all models at once.

    Args:
      scores: shape (models, n), higher for members.
      members: shape (models, n) bool.
    """
    models, records = scores.shape
    flat, positive = scores.ravel(), members.ravel()

    def interval(statistic: Statistic) -> Interval:
        return bootstrap_interval(
            lambda counts: statistic(np.tile(counts, models)),
            records,
            rng=rng,
            num_resamples=num_resamples,
        )

    return Membership(
        interval(auc([(flat, positive)])),
        {rate: interval(_tpr(flat, positive, rate)) for rate in FALSE_POSITIVE_RATES},
        models,
        records,
        kind,
    )


def _fit(values: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) and standard deviation (n,) of the chosen values of each column."""
    count = chosen.sum(axis=0)
    mean = (values * chosen).sum(axis=0) / count
    squares = (np.square(values - mean) * chosen).sum(axis=0)
    if len(values) < OWN_VARIANCE_FROM:
        spread = np.full(len(mean), math.sqrt(squares.sum() / (count - 1).sum()))
    else:
        spread = np.sqrt(squares / (count - 1))
    return mean, np.maximum(spread, 1e-12)


def _tpr(scores: np.ndarray, positive: np.ndarray, rate: float) -> Statistic:
    """The part of members above the threshold that at most ``rate`` of the others pass."""
    order = np.argsort(-scores, kind="stable")
    ranked, is_member = scores[order], positive[order].astype(np.float64)
    # A threshold lies between different scores: equal ones pass together.
    last_of_level = np.append(ranked[1:] != ranked[:-1], True)

    def statistic(counts):
        weight = counts[order]
        up, down = np.cumsum(weight * is_member), np.cumsum(weight * (1 - is_member))
        passed = up[last_of_level & (down <= rate * down[-1])]
        return float(passed[-1] / up[-1]) if len(passed) else 0.0

    return statistic
