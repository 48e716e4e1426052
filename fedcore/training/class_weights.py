"""Weights that let rare classes count as much as frequent ones."""

from __future__ import annotations

import numpy as np

from fedcore.task import Task, TaskKind


def label_counts(task: Task, targets: np.ndarray) -> np.ndarray:
    """(labels,) int64 samples of each label; for multilabel, samples that carry it.

    Empty for regression.
    """
    if task.kind is TaskKind.REGRESSION:
        return np.zeros(0, dtype=np.int64)
    if task.kind is TaskKind.MULTILABEL:
        return targets.sum(axis=0).astype(np.int64)
    return np.bincount(targets, minlength=len(task.labels)).astype(np.int64)


def balanced_weights(task: Task, counts: np.ndarray, num_examples: int) -> np.ndarray:
    """(labels,) float32 weights for :meth:`fedcore.task.Task.loss`; 1 where a label is absent.

    ``n / (k count)`` as scikit-learn's ``balanced`` (King and Zeng, Logistic Regression in Rare
    Events Data, 2001); multilabel: negatives per positive.

    >>> from fedcore.task import TaskKind
    >>> balanced_weights(Task(TaskKind.BINARY, ("no", "yes")), np.array([30, 10]), 40).round(2)
    array([0.67, 2.  ], dtype=float32)

    Raises:
      ValueError: the task is a regression or of language.
    """
    if not task.has_classes:
        raise ValueError(f"class_weights need classes; {task.kind.value} has none. Use none.")
    safe = np.maximum(counts, 1)
    if task.kind is TaskKind.MULTILABEL:
        weights = (num_examples - counts) / safe
    else:
        weights = num_examples / (len(counts) * safe)
    present = (counts > 0) & (weights > 0)
    return np.where(present, weights, 1.0).astype(np.float32)
