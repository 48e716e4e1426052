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
from fedcore.training.loop import add_drift, batch_loss, clip_gradients
from fedcore.training.settings import TrainerSettings

DECAYS = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}


def run_trainer(lesson: Lesson) -> tuple[int, float]:
    """AdamW with warm-up through the Trainer; a :class:`fedcore.training.contract.Backend`.

    Nothing is saved, logged or reported, and batches come in the lesson's own order. The Trainer
    seeds the global generators anew; :func:`fedcore.training.train.train` restores them.
    """
    settings = lesson.settings
    if not isinstance(settings, TrainerSettings):
        raise ValueError(
            f"the trainer backend takes kind='trainer' settings, not {settings.kind!r}."
        )
    steps = math.ceil(len(lesson.batches) / settings.accumulation)
    with tempfile.TemporaryDirectory(prefix="fedloom-trainer-") as folder, quiet_transformers():
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulation,
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
        trainer = _LessonTrainer(lesson, arguments)
        trainer.train()
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
            train_dataset=_dataset(lesson),
            callbacks=[_DriftAndClip(lesson)],
        )
        self.remove_callback(PrinterCallback)  # prints its timings even when nothing is logged

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


class _DriftAndClip(TrainerCallback):
    """Adds the drift to the accumulated gradients, then clips them, before each optimizer step."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.parameters = trainable_parameters(lesson.model)
        self.anchor = {name: p.detach().clone() for name, p in self.parameters.items()}

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
    """Images as PNG in a ``datasets.Dataset``; tables and features as rows of floats."""
    import datasets

    targets = lesson.targets.numpy()
    raw = lesson.samples.raw
    if isinstance(raw, np.ndarray) and raw.ndim == 4:
        return to_huggingface(Split(raw, targets), lesson.task)
    rows = raw.numpy() if isinstance(raw, torch.Tensor) else raw
    return datasets.Dataset.from_dict({"row": rows, "label": targets}).with_format("numpy")


def _collate(lesson: Lesson) -> Any:
    preprocess = lesson.samples.preprocess

    def collate(rows):
        targets = torch.from_numpy(np.array([row["label"] for row in rows]))
        if "image" in rows[0]:
            images = np.stack([np.asarray(row["image"]) for row in rows])
            inputs = images[..., None] if images.ndim == 3 else images
        else:
            inputs = np.stack([row["row"] for row in rows]).astype(np.float32)
        ready = torch.from_numpy(inputs) if preprocess is None else preprocess.apply(inputs)
        return {"inputs": ready, "targets": targets.to(lesson.targets.dtype)}

    return collate
