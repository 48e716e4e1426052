"""How a client trains in a round: the small torch loop or the Hugging Face Trainer."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedcore.form import Choice
from fedcore.settings import Settings
from fedcore.training.device import DevicePolicy

# AdamW's in the Trainer, by what of a transformer is trained; for all else 1e-4.
LEARNING_RATES = {"head": 5e-4, "adapters": 1e-3}
LEARNING_RATE = 1e-4


class NoAugmentation(Settings, title="None"):
    """Images as they are."""

    kind: Literal["none"] = "none"


class LightAugmentation(Settings, title="Light"):
    """Small random shifts, rotations and brightness changes, and mirror images."""

    kind: Literal["light"] = "light"
    shift: float = Field(0.07, ge=0, le=0.5, description="Largest shift, as part of the side.")
    degrees: float = Field(10.0, ge=0, le=180, description="Largest rotation.")
    brightness: float = Field(0.1, ge=0, lt=1, description="Largest relative change of values.")
    mirrors: bool = Field(True, description="Mirror every second image left to right.")


class ConstantSchedule(Settings, title="Constant"):
    """The same learning rate in every round."""

    kind: Literal["constant"] = "constant"

    def factor(self, round_number: int, rounds: int) -> float:
        """1 in every round."""
        return 1.0


class CosineSchedule(Settings, title="Cosine"):
    """From 1 to ``final_factor`` along half a cosine over the rounds."""

    kind: Literal["cosine"] = "cosine"
    final_factor: float = Field(0.05, ge=0, le=1, description="Factor in the last round.")
    rounds: int | None = Field(
        None,
        ge=1,
        description="Rounds until the final factor; null: those of the run. Set it when the run is "
        "to be extended later, so that earlier rounds stay as they are.",
    )

    def factor(self, round_number: int, rounds: int) -> float:
        """Factor of round 1, 2, ... of ``rounds``.

        >>> [round(CosineSchedule(final_factor=0).factor(r, 3), 3) for r in (1, 2, 3)]
        [1.0, 0.5, 0.0]
        """
        last = (self.rounds or rounds) - 1
        done = min(1.0, (round_number - 1) / last) if last else 0.0
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * done))


Augmentation = Annotated[NoAugmentation | LightAugmentation, Field(discriminator="kind"), Choice()]
Schedule = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="kind"), Choice()]


class _LocalSettings(Settings):
    """What both backends share."""

    batch_size: int = Field(32, ge=1, le=65536, description="Samples of a training batch.")
    eval_batch_size: int = Field(
        256, ge=1, le=65536, description="Samples of a batch in evaluation."
    )
    epochs: int | None = Field(
        None, ge=1, description="Passes over the client's data in a round (1 if steps is not set)."
    )
    steps: int | None = Field(
        None, ge=1, description="Batches in a round instead of epochs; the data repeats as needed."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decay of the weights per step.")
    max_grad_norm: float | None = Field(
        None, gt=0, description="Gradients are scaled down to this L2 norm; null: never."
    )
    class_weights: Literal["none", "client", "federation"] = Field(
        "none",
        description="Let rare classes count as much as frequent ones in the loss, by the label "
        "counts of the client or of all clients.",
    )
    augmentation: Augmentation = Field(
        NoAugmentation(), description="Random changes of training images."
    )
    schedule: Schedule = Field(
        ConstantSchedule(),
        description="Learning rate over the rounds of the run, after those of the head alone.",
    )
    head_rounds: int = Field(
        0,
        ge=0,
        description="First rounds that train the head alone: cheap, as all before it is then the "
        "same in each of them and kept.",
    )
    head_learning_rate: float | None = Field(
        None, gt=0, description="Step size in these rounds; null: as in the others."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Arithmetic of forward and backward passes; weights are float32."
    )

    device: DevicePolicy = Field("cpu", description="Where to train; falls back to the CPU.")

    @model_validator(mode="before")
    @classmethod
    def _one_epoch_unless_told(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("epochs") is None and data.get("steps") is None:
            return {**data, "epochs": 1}
        return data

    def _rate(self, base: float, round_number: int, rounds: int) -> float:
        if round_number <= self.head_rounds:
            return self.head_learning_rate or base
        left = max(1, rounds - self.head_rounds)
        return base * self.schedule.factor(round_number - self.head_rounds, left)

    @model_validator(mode="after")
    def _head_rate_is_for_head_rounds(self) -> _LocalSettings:
        if self.head_learning_rate is not None and not self.head_rounds:
            raise ValueError(
                f"head_learning_rate={self.head_learning_rate:g} has no effect with head_rounds=0; "
                "remove it or set head_rounds."
            )
        return self

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> _LocalSettings:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                f"epochs={self.epochs} and steps={self.steps} are both set; "
                "a round is counted in one of them. Remove the other."
            )
        return self


class LoopSettings(_LocalSettings, title="Small loop"):
    """A small torch loop: for tables, CNNs and heads on cached features."""

    kind: Literal["loop"] = "loop"
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Local optimizer.")
    learning_rate: float = Field(0.05, gt=0, description="Step size of the first round.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of SGD; reset every round.")

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> LoopSettings:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"momentum={self.momentum} has no effect with optimizer={self.optimizer!r}; "
                "remove it or use sgd."
            )
        return self

    def learning_rate_at(self, round_number: int, rounds: int, mode: str | None = None) -> float:
        """Step size of round 1, 2, ... of ``rounds``, whatever the model's ``mode``.

        >>> LoopSettings(learning_rate=0.1).learning_rate_at(3, 5)
        0.1
        """
        return self._rate(self.learning_rate, round_number, rounds)


class TrainerSettings(_LocalSettings, title="Hugging Face Trainer"):
    """The Hugging Face Trainer with defaults that a CPU can bear: for transformers."""

    kind: Literal["trainer"] = "trainer"
    batch_size: int = Field(8, ge=1, le=65536, description="Samples of a training batch.")
    eval_batch_size: int = Field(8, ge=1, le=65536, description="Samples of a batch in evaluation.")
    accumulation: int = Field(2, ge=1, le=1024, description="Batches per optimizer step.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Step size of AdamW in the first round; null: 5e-4 for a head, 1e-3 for "
        "adapters, 1e-4 when blocks of the backbone are trained.",
    )
    weight_decay: float = Field(0.01, ge=0, description="Decay of the weights per step.")
    max_grad_norm: float | None = Field(
        1.0, gt=0, description="Gradients are scaled down to this L2 norm; null: never."
    )
    warmup: float = Field(0.05, ge=0, le=1, description="Part of a round's steps that warms up.")
    decay: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="Learning rate within a round, after the warm-up."
    )

    def learning_rate_at(self, round_number: int, rounds: int, mode: str | None = None) -> float:
        """Step size of round 1, 2, ... of ``rounds``; the model's ``mode`` decides the default."""
        base = self.learning_rate or LEARNING_RATES.get(mode or "", LEARNING_RATE)
        return self._rate(base, round_number, rounds)


TrainingSettings = Annotated[LoopSettings | TrainerSettings, Field(discriminator="kind"), Choice()]
