"""Metrics of a model's scores; and their mean and worst over clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedcore.task import Task, TaskKind

HIGHER_IS_BETTER = {
    "accuracy": True,
    "auc": True,
    "balanced_accuracy": True,
    "r2": True,
    "loss": False,
    "mean_absolute_error": False,
    "perplexity": False,
}

_OF_CLASSES = ("loss", "accuracy", "auc", "balanced_accuracy")
_MEASURED = {
    TaskKind.ORDINAL: (*_OF_CLASSES, "mean_absolute_error"),
    TaskKind.REGRESSION: ("loss", "mean_absolute_error", "r2"),
    TaskKind.LANGUAGE: ("loss", "accuracy", "perplexity"),
}


def metrics_of(kind: TaskKind) -> tuple[str, ...]:
    """What :func:`measure` tells of this kind of task.

    >>> metrics_of(TaskKind.LANGUAGE)
    ('loss', 'accuracy', 'perplexity')
    """
    return _MEASURED.get(kind, _OF_CLASSES)


def measure(task: Task, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Loss, accuracy, AUC and balanced accuracy (regression: loss, absolute error, R squared;
    language: loss, perplexity, and accuracy of the next token, of all scored tokens together).

    A metric that the targets cannot define is left out: AUC with one class present, R squared of
    one sample, everything of a language task without a scored token. Multi-class AUC is the mean
    over the classes present of one-against-rest; multi-label accuracy and AUC are means over
    labels: the definitions of MedMNIST (Yang et al., MedMNIST v2, Scientific Data 2023, section
    "Evaluation").

    Args:
      logits: (n, outputs).
      targets: as in :class:`fedcore.task.TaskKind`; n > 0.

    Raises:
      ValueError: no samples, or logits that are not finite.
    """
    from sklearn.metrics import r2_score

    if len(targets) == 0:
        raise ValueError("targets has 0 samples: nothing to evaluate.")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity: the model diverged; lower learning_rate.")
    import torch

    scores = task.scores(logits)
    if task.kind is TaskKind.LANGUAGE:
        return _measure_language(scores)
    loss = float(
        task.loss(torch.from_numpy(np.asarray(logits, np.float64)), _torch_targets(task, targets))
    )
    if task.kind is TaskKind.REGRESSION:
        found = {"loss": loss, "mean_absolute_error": float(np.abs(scores[:, 0] - targets).mean())}
        if len(targets) > 1:
            found["r2"] = float(r2_score(targets, scores[:, 0]))
        return found
    predicted = task.predict(scores)
    found = {"loss": loss, "accuracy": float((predicted == targets).mean())}
    aucs = _aucs(scores, _one_against_rest(task, scores, targets))
    if len(aucs):
        found["auc"] = float(aucs.mean())
    if task.kind is TaskKind.MULTILABEL:
        recalls = [_recall_mean(predicted[:, j], targets[:, j]) for j in range(targets.shape[1])]
        found["balanced_accuracy"] = float(np.mean(recalls))
    else:
        found["balanced_accuracy"] = _recall_mean(predicted, targets)
    if task.kind is TaskKind.ORDINAL:
        found["mean_absolute_error"] = float(np.abs(predicted - targets).mean())
    return found


def perplexity(loss: float) -> float:
    """The exponential of a mean loss per token in nats; of a hopeless one the largest that is kept.

    Jelinek et al., Perplexity: a measure of the difficulty of speech recognition tasks, Journal of
    the Acoustical Society of America 62, 1977.

    >>> perplexity(0.0)
    1.0
    """
    return float(np.exp(min(loss, _LARGEST_LOSS)))


# Records are JSON, which has no infinity; exp(709.8) would be one.
_LARGEST_LOSS = 700.0


def _measure_language(scores: np.ndarray) -> dict[str, float]:
    likelihood, tokens, right = scores.sum(axis=0)
    if not tokens:
        return {}
    loss = float(-likelihood / tokens)
    return {"loss": loss, "accuracy": float(right / tokens), "perplexity": perplexity(loss)}


def summarise(clients: Mapping[str, Mapping[str, Any]], metric: str) -> tuple[str, float] | None:
    """(client, value) of the worst client by ``metric``, first by name among equals.

    Args:
      clients: client id -> metrics; clients without the metric are passed over.
    """
    held = {c: m[metric] for c, m in clients.items() if metric in m}
    if not held:
        return None
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    worst = min(sorted(held), key=lambda client: sign * held[client])
    return worst, held[worst]


def pooled(clients: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Example-weighted mean of each metric over the clients that have it.

    What a federation without central data can report; for AUC it is a mean of AUCs, not the AUC of
    the pooled scores, and for language each text of a client counts alike, however long.
    """
    names = sorted({name for m in clients.values() for name in m if name != "num_examples"})
    result = {}
    for name in names:
        held = [(m[name], m["num_examples"]) for c, m in sorted(clients.items()) if name in m]
        result[name] = float(np.average([v for v, _ in held], weights=[n for _, n in held]))
    return result


def _torch_targets(task: Task, targets: np.ndarray) -> Any:
    import torch

    kind = np.float64 if task.kind is TaskKind.REGRESSION else np.int64
    return torch.from_numpy(np.ascontiguousarray(targets, dtype=kind))


def _one_against_rest(task: Task, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which samples are positive for each column of ``scores``; bool, of its shape."""
    if task.kind is TaskKind.BINARY:
        return targets[:, None] == 1
    if task.kind is TaskKind.MULTILABEL:
        return targets == 1
    return targets[:, None] == np.arange(scores.shape[1])


def _aucs(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUC of each column that has samples of both sides: Mann-Whitney's U of the positive ones over
    the number of pairs (Hanley and McNeil, Radiology 143, 1982), ties counted as a half.

    From all columns' ranks at once: scikit-learn's curve for each label of each client takes longer
    than the small models that are evaluated. Ranks and their sums are exact in float64.
    """
    from scipy.stats import rankdata

    yes = positive.sum(axis=0)
    no = len(positive) - yes
    both = (yes > 0) & (no > 0)
    ranks = rankdata(scores[:, both], axis=0)
    above = (ranks * positive[:, both]).sum(axis=0) - yes[both] * (yes[both] + 1) / 2
    return above / (yes[both] * no[both])


def _recall_mean(predicted: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean([(predicted[targets == c] == c).mean() for c in np.unique(targets)]))
