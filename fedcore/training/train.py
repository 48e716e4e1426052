"""Local training and prediction, the two things a client does with a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.parts import training_only
from fedcore.models.preprocess import Preprocess
from fedcore.models.state import trainable_parameters
from fedcore.rng import seeded_globals, stream
from fedcore.task import Task
from fedcore.training.augmentation import augmenter
from fedcore.training.batches import draw_batches
from fedcore.training.class_weights import balanced_weights, label_counts
from fedcore.training.contract import Backend, Drift, Lesson, TrainingDiverged, TrainResult
from fedcore.training.features import backbone_features
from fedcore.training.loop import run_loop
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.private.noisy_gradients import private_steps
from fedcore.training.private.refusals import require_private
from fedcore.training.samples import Samples
from fedcore.training.settings import LoopSettings, NoAugmentation, TrainingSettings
from fedcore.training.threads import one_thread


def train(
    model: nn.Module,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    task: Task,
    preprocess: Preprocess,
    settings: TrainingSettings,
    learning_rate: float,
    seed: int,
    names: tuple[str | int, ...] = (),
    drift: Drift | None = None,
    class_weights: np.ndarray | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    private: ExampleNoise | None = None,
    key: bytes | None = None,
    parts: Collection[str] | None = None,
    groups: np.ndarray | None = None,
) -> TrainResult:
    """Train ``model`` in place on one client's samples; the caller takes ``after - anchor``.

    Args:
      model: from :func:`fedcore.models.build.build_model`, holding the anchor.
      inputs: raw images (n, h, w, c) or texts (n, most_bytes) uint8, or tables (n, columns)
        float32.
      targets: as in :class:`fedcore.task.TaskKind`.
      task: gives the loss.
      preprocess: what turns ``inputs`` into what the model reads.
      settings: backend and its options.
      learning_rate: of this round (``settings.learning_rate_at``).
      seed: of the run.
      names: of this job, e.g. ``(round, client)``; every draw is from streams under them.
      drift: a term added to each gradient, see :data:`fedcore.training.contract.Drift`.
      class_weights: (labels,) of the federation, for ``settings.class_weights == "federation"``
        (:func:`fedcore.training.class_weights.balanced_weights`).
      cache: folder for features of frozen backbones and tokens of texts; speed only.
      device: from :func:`fedcore.training.device.choose_device`.
      private: train under example-level differential privacy: its steps and sampling instead of
        the settings' epochs, steps and batch size, and no metrics.
      key: 32 bytes of this job that only the client can compute; all that is random about private
        training comes from it, nothing from ``seed``.
      parts: of :data:`fedcore.models.parts.PARTS` that are trained; None: all that is trainable.
      groups: (n,) str, the group of persons of each sample, where ``private`` tells them apart.

    Raises:
      ValueError: no samples, unequal lengths, values that are not finite, wrong shapes; see
        :func:`fedcore.training.private.refusals.require_private`.
      TrainingDiverged: the loss or a parameter is not finite.
    """
    _check_samples(inputs, targets)
    secret = None
    if private is not None:
        require_private(model, settings)
        if key is None:
            raise ValueError(
                "private training needs the job's secret key; its noise must not be predictable."
            )
        secret = private_steps(private, key, len(inputs), groups)
        seed = secret.seed
    with (
        one_thread(),
        seeded_globals(seed, "training", *names),
        training_only(model, parts),
    ):
        model.to(device).train()
        keeps_features = isinstance(settings.augmentation, NoAugmentation)
        network, samples = _network_and_samples(
            model, inputs, preprocess, cache, device, keeps_features
        )
        lesson = Lesson(
            model=model,
            network=network,
            samples=samples,
            targets=torch.from_numpy(np.array(targets)),
            task=task,
            settings=settings,
            learning_rate=learning_rate,
            batches=secret.batches if secret else _batches(settings, len(inputs), seed, names),
            augment=augmenter(settings.augmentation, stream(seed, "augmentation", *names)),
            drift=drift,
            class_weights=_class_weights(task, settings, targets, class_weights, device),
            device=device,
            private=secret,
        )
        steps, loss = _backend(settings)(lesson)
        model.eval()
    for name, parameter in trainable_parameters(model).items():
        if not torch.isfinite(parameter).all():
            told = f" (mean loss {loss:g})" if loss is not None else ""
            way = " or set max_grad_norm" if private is None else ""
            raise TrainingDiverged(
                f"parameter {name!r} is not finite after {steps} steps{told}; "
                f"lower learning_rate={learning_rate:g}{way}."
            )
    return TrainResult(len(inputs), steps, {} if loss is None else {"loss": loss})


def predict(
    model: nn.Module,
    inputs: np.ndarray,
    *,
    preprocess: Preprocess,
    batch_size: int = 256,
    cache: Path | None = None,
    device: str = "cpu",
    parts: Collection[str] | None = None,
) -> np.ndarray:
    """Logits (n, outputs) float32 of ``model`` in evaluation mode; n may be 0.

    Args:
      model: any module of :mod:`fedcore.models`.
      inputs: raw images (n, h, w, c) or texts (n, most_bytes) uint8, or tables (n, columns)
        float32.
      preprocess: what turns ``inputs`` into what the model reads.
      batch_size: samples of a batch.
      cache: folder for features of frozen backbones and tokens of texts; speed only.
      device: where to compute.
      parts: that were trained last: features are kept before the first of them.
    """
    if len(inputs) == 0:
        one = np.zeros((1, *inputs.shape[1:]), dtype=inputs.dtype)
        return predict(model, one, preprocess=preprocess, device=device)[:0]
    was_training = model.training
    with one_thread(), torch.no_grad(), training_only(model, parts):
        model.to(device).eval()
        network, samples = _network_and_samples(model, inputs, preprocess, cache, device)
        order = preprocess.order(inputs)
        batches = [
            network(samples.batch(indices).to(device)).float().cpu().numpy()
            for indices in torch.from_numpy(order).split(batch_size)
        ]
    model.train(was_training)
    logits = np.concatenate(batches)
    logits[order] = logits.copy()
    return logits


def _batches(
    settings: TrainingSettings, num_examples: int, seed: int, names: tuple[str | int, ...]
) -> tuple[torch.Tensor, ...]:
    return draw_batches(
        stream(seed, "batches", *names),
        num_examples=num_examples,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        steps=settings.steps,
    )


def _backend(settings: TrainingSettings) -> Backend:
    if isinstance(settings, LoopSettings):
        return run_loop
    from fedcore.training.trainer import run_trainer

    return run_trainer


def _network_and_samples(
    model: nn.Module,
    inputs: np.ndarray,
    preprocess: Preprocess,
    cache: Path | None,
    device: str,
    keeps_features: bool = True,
) -> tuple[nn.Module, Samples]:
    """The head on features of a frozen backbone, with or without a cache; else the whole model."""
    frozen = on_frozen_backbone(model)
    if keeps_features and frozen is not None:
        features = backbone_features(frozen, inputs, preprocess, cache, device)
        return frozen.head, Samples(features, None)
    return model, Samples(inputs, preprocess, cache)


def _class_weights(
    task: Task,
    settings: TrainingSettings,
    targets: np.ndarray,
    of_federation: np.ndarray | None,
    device: str,
) -> torch.Tensor | None:
    if settings.class_weights == "none":
        return None
    weights = of_federation
    if settings.class_weights == "client":
        weights = balanced_weights(task, label_counts(task, targets), len(targets))
    if weights is None:
        raise ValueError(
            "class_weights='federation' needs the federation's weights: "
            "pass class_weights=balanced_weights(task, counts, num_examples)."
        )
    return torch.from_numpy(np.array(weights, dtype=np.float32)).to(device)


def _check_samples(inputs: np.ndarray, targets: np.ndarray) -> None:
    if len(inputs) == 0:
        raise ValueError("num_examples=0: a client without samples cannot train; leave it out.")
    if len(inputs) != len(targets):
        raise ValueError(f"{len(inputs)} inputs and {len(targets)} targets; they must pair up.")
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            axes = tuple(range(1, values.ndim))
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=axes))[0])
            raise ValueError(
                f"{name} have values that are not finite (first in sample {row}); "
                "encode or drop missing values before training."
            )
