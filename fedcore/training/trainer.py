"""The Hugging Face Trainer as a backend: reference for transformers."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from fedcore.data.dataset import Split
from fedcore.data.huggingface import to_huggingface
from fedcore.models.quiet import quiet_transformers
from fedcore.models.state import trainable_parameters
from fedcore.training.contract import Lesson, TrainingDiverged
from fedcore.training.loop import add_drift, clip_gradients
from fedcore.training.loss import batch_loss
from fedcore.training.private.noisy_gradients import noisy_gradients
from fedcore.training.settings import TrainerSettings

DECAYS = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}


def run_trainer(lesson: Lesson) -> tuple[int, float | None]:
    """AdamW with warm-up through the Trainer; a :class:`fedcore.training.contract.Backend`.

    Nothing is saved, logged or reported, and batches come in the lesson's own order. The Trainer
    seeds the global generators anew; :func:`fedcore.training.train.train` restores them. A private
    lesson has one step per batch, whatever ``accumulation``, and brings its own gradients.
    """
    settings = lesson.settings
    if not isinstance(settings, TrainerSettings):
        raise ValueError(
            f"the trainer backend takes kind='trainer' settings, not {settings.kind!r}."
        )
    accumulation = settings.accumulation if lesson.private is None else 1
    steps = math.ceil(len(lesson.batches) / accumulation)
    with tempfile.TemporaryDirectory(prefix="fedloom-trainer-") as folder, quiet_transformers():
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=1,  # the lesson's batches, however many epochs they cover
            learning_rate=lesson.learning_rate,
            weight_decay=settings.weight_decay,
            # Rounded down: the first warm-up step has rate 0, all that a small client would get.
            warmup_steps=math.floor(settings.warmup * steps),
            lr_scheduler_type=DECAYS[settings.decay],
            optim="adamw_torch",
            max_grad_norm=0.0,  # clipped below, after the drift was added
            use_cpu=lesson.device == "cpu",
            # The scope's own seed, which is this job's: torch was seeded by `seeded_globals`.
            seed=torch.initial_seed() % 2**31,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            log_level="error",
        )
        kind = _LessonTrainer if lesson.private is None else _PrivateTrainer
        trainer = kind(lesson, arguments)
        trainer.train()
    if lesson.private is not None:
        return trainer.state.global_step, None
    total = sum(loss * size for loss, size in trainer.losses)
    return trainer.state.global_step, total / sum(size for _, size in trainer.losses)


class _LessonTrainer(Trainer):
    """A Trainer that takes batches and loss from a lesson."""

    def __init__(self, lesson: Lesson, arguments: TrainingArguments) -> None:
        self.lesson = lesson
        self.losses: list[tuple[float, int]] = []
        super().__init__(
            model=lesson.network,
            args=arguments,
            train_dataset=self.dataset(),
            callbacks=[_DriftAndClip(lesson)],
        )
        self.remove_callback(PrinterCallback)  # prints its timings even when nothing is logged

    def dataset(self) -> Any:
        """What the lesson's batches index."""
        return _dataset(self.lesson)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset,
            batch_sampler=[indices.tolist() for indices in self.lesson.batches],
            collate_fn=_collate(self.lesson),
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = batch_loss(self.lesson, inputs["inputs"], inputs["targets"])
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the training loss is {value} in batch {len(self.losses) + 1} of "
                f"{len(self.lesson.batches)}; lower learning_rate={self.lesson.learning_rate:g}."
            )
        self.losses.append((value, len(inputs["targets"])))
        return loss


class _PrivateTrainer(_LessonTrainer):
    """A Trainer whose steps take a lesson's Poisson batches and noisy gradients.

    It reads the numbers of the batches alone: they have any size, none too, and the examples'
    gradients are made by micro-batches. Schedule, optimizer and callbacks are the Trainer's.
    """

    def __init__(self, lesson: Lesson, arguments: TrainingArguments) -> None:
        super().__init__(lesson, arguments)
        self.gradients = noisy_gradients(lesson)

    def dataset(self) -> Any:
        return range(len(self.lesson.batches))

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_dataset, batch_size=1, collate_fn=lambda rows: {"batch": torch.tensor(rows)}
        )

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        gradients = self.gradients(self.lesson.batches[int(inputs["batch"])])
        for name, parameter in trainable_parameters(self.lesson.model).items():
            parameter.grad = gradients[name]
        return torch.zeros((), device=self.args.device)  # the loss is not told


class _DriftAndClip(TrainerCallback):
    """Adds the drift to the accumulated gradients, then clips them, before each optimizer step."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.parameters = trainable_parameters(lesson.model)
        self.anchor = {name: p.detach().clone() for name, p in self.parameters.items()}

    def on_train_begin(self, args, state, control, **kwargs):
        if self.lesson.private is not None:  # the Trainer keeps 31 bits of the secret: guessable
            torch.manual_seed(self.lesson.private.seed % 2**64)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        used = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        with torch.no_grad():
            if self.lesson.drift is not None:
                add_drift(self.lesson.drift, used, self.parameters, self.anchor)
            if self.lesson.settings.max_grad_norm is not None:
                clip_gradients(list(used.values()), self.lesson.settings.max_grad_norm)
        for name, gradient in used.items():
            self.parameters[name].grad = gradient


def _dataset(lesson: Lesson) -> Any:
    """Images as PNG in a ``datasets.Dataset``; of anything else the samples' numbers."""
    raw = lesson.samples.raw
    if isinstance(raw, np.ndarray) and raw.ndim == 4:
        return to_huggingface(Split(raw, lesson.targets.numpy()), lesson.task)
    return range(len(lesson.samples))


def _collate(lesson: Lesson) -> Any:
    preprocess = lesson.samples.preprocess

    def collate(rows):
        if preprocess is None or not isinstance(rows[0], dict):
            chosen = torch.tensor(rows)
            return {"inputs": lesson.samples.batch(chosen), "targets": lesson.targets[chosen]}
        targets = torch.from_numpy(np.array([row["label"] for row in rows]))
        images = np.stack([np.asarray(row["image"]) for row in rows])
        ready = preprocess.apply(images[..., None] if images.ndim == 3 else images)
        return {"inputs": ready, "targets": targets.to(lesson.targets.dtype)}

    return collate
