"""What is learned: the kind of target, its labels, loss, scores and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


class TaskKind(StrEnum):
    """Kinds of targets.

    BINARY: (n,) int64 of 0 and 1. MULTICLASS and ORDINAL: (n,) int64 below the number of labels.
    MULTILABEL: (n, labels) int64 of 0 and 1. REGRESSION: (n,) float32. LANGUAGE: (n,) int64 zeros,
    as there is nothing to predict but the texts themselves; in place of logits a model gives three
    numbers of each text: the log-likelihood of its scored tokens (nats, summed), how many these
    are, and of how many the most probable token was the right one.
    """

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"
    ORDINAL = "ordinal"
    REGRESSION = "regression"
    LANGUAGE = "language"


# The only label of a language task, and how wide what its models give is.
TEXTS = ("texts",)
_LANGUAGE_OUTPUTS = 3


@dataclass(frozen=True)
class Task:
    """What a model predicts. Models, partitioners, the audit and signatures ask it.

    Attributes:
      kind: kind of target.
      labels: names of the labels by index; for binary (negative, positive); for regression the
        name of the one quantity; for language ``TEXTS``.
    """

    kind: TaskKind
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        need = {TaskKind.BINARY: 2, TaskKind.REGRESSION: 1, TaskKind.LANGUAGE: 1}.get(self.kind)
        if need is not None and len(self.labels) != need:
            raise ValueError(
                f"labels={self.labels!r}: a {self.kind.value} task needs exactly {need}."
            )
        if not self.labels:
            raise ValueError(f"labels=(): a {self.kind.value} task needs at least one label.")

    @property
    def num_outputs(self) -> int:
        """Width of what a model gives: 1 logit for binary, one per label otherwise; language: 3."""
        if self.kind is TaskKind.LANGUAGE:
            return _LANGUAGE_OUTPUTS
        return 1 if self.kind in (TaskKind.BINARY, TaskKind.REGRESSION) else len(self.labels)

    @property
    def has_classes(self) -> bool:
        """Whether targets are labels that can be counted and weighted."""
        return self.kind not in (TaskKind.REGRESSION, TaskKind.LANGUAGE)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return {"kind": self.kind.value, "labels": list(self.labels)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Task:
        """The task that ``to_json`` described."""
        return Task(TaskKind(value["kind"]), tuple(value["labels"]))

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """(n,) int64 key to stratify by.

        The label; multilabel: the rarest one present plus 1 (0: none); regression: the decile.
        """
        if self.kind is TaskKind.MULTILABEL:
            order = np.argsort(targets.sum(axis=0), kind="stable")
            key = np.zeros(len(targets), dtype=np.int64)
            for label in order[::-1]:
                key[targets[:, label] == 1] = label + 1
            return key
        if self.kind is TaskKind.REGRESSION:
            edges = np.quantile(targets, np.linspace(0.1, 0.9, 9)) if len(targets) else []
            return np.searchsorted(edges, targets).astype(np.int64)
        return targets.astype(np.int64)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean loss of a batch: cross-entropy (binary: with logits) or half squared error.

        Language: of a scored token, over all of the batch; 0 where there is none.

        Args:
          logits: (n, num_outputs).
          targets: as in ``TaskKind``.
          class_weights: (labels,) weight of each class (binary: of negative, positive;
            multilabel: of each positive), normalised within the batch as
            ``torch.nn.functional.cross_entropy`` does.
        """
        from torch.nn import functional

        if self.kind is TaskKind.REGRESSION:
            return 0.5 * functional.mse_loss(logits[:, 0], targets)
        if self.kind is TaskKind.LANGUAGE:
            likelihood, tokens, _ = logits.sum(0)
            return -likelihood / tokens.clamp(min=1)
        if self.kind is TaskKind.BINARY:
            each = functional.binary_cross_entropy_with_logits(
                logits[:, 0], targets.to(logits.dtype), reduction="none"
            )
            if class_weights is None:
                return each.mean()
            weight = class_weights[targets]
            return (each * weight).sum() / weight.sum()
        if self.kind is TaskKind.MULTILABEL:
            return functional.binary_cross_entropy_with_logits(
                logits, targets.to(logits.dtype), pos_weight=class_weights
            )
        return functional.cross_entropy(logits, targets, weight=class_weights)

    def logit_gradients(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(n, num_outputs): of each sample's own :meth:`loss`, by its logits, without autograd.

        Args:
          logits: (n, num_outputs).
          targets: as in ``TaskKind``.
        """
        from torch.nn import functional

        if self.kind is TaskKind.REGRESSION:
            return logits - targets[:, None]
        if self.kind is TaskKind.LANGUAGE:
            by_likelihood = -1 / logits[:, 1:2].clamp(min=1)
            return functional.pad(by_likelihood, (0, _LANGUAGE_OUTPUTS - 1))
        if self.kind is TaskKind.BINARY:
            return logits.sigmoid() - targets[:, None].to(logits.dtype)
        if self.kind is TaskKind.MULTILABEL:
            return (logits.sigmoid() - targets.to(logits.dtype)) / self.num_outputs
        return logits.softmax(1) - functional.one_hot(targets, self.num_outputs)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """(n, num_outputs) float64 probabilities (regression: the predicted quantity; language:
        what the model gives)."""
        logits = np.asarray(logits, dtype=np.float64)
        if self.kind in (TaskKind.REGRESSION, TaskKind.LANGUAGE):
            return logits
        if self.kind in (TaskKind.BINARY, TaskKind.MULTILABEL):
            return 0.5 * (1.0 + np.tanh(0.5 * logits))
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Predicted targets as in ``TaskKind``: at threshold 0.5, or by the largest score."""
        if self.kind is TaskKind.REGRESSION:
            return scores[:, 0]
        if self.kind is TaskKind.LANGUAGE:
            return np.zeros(len(scores), dtype=np.int64)
        if self.kind is TaskKind.BINARY:
            return (scores[:, 0] >= 0.5).astype(np.int64)
        if self.kind is TaskKind.MULTILABEL:
            return (scores >= 0.5).astype(np.int64)
        return scores.argmax(axis=1).astype(np.int64)
