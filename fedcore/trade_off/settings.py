"""Which epsilons are tried, how often, and what is looked at."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fedcore.form import Choice
from fedcore.settings import Settings

Metric = Literal[
    "accuracy", "auc", "balanced_accuracy", "r2", "loss", "mean_absolute_error", "perplexity"
]
LearningRate = Annotated[float, Field(gt=0)]


class NoReference(Settings, title="None"):
    """Only the runs with privacy."""

    kind: Literal["none"] = "none"


class _Reference(Settings):
    """What both references share."""

    learning_rates: tuple[LearningRate, ...] = Field(
        (),
        max_length=10,
        description="Rates tried for the reference; none: training.learning_rate. Gradients that "
        "are not clipped are longer and often need a much smaller one.",
    )
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description='Other settings of the reference by dotted key, e.g. {"training.steps": 20}.',
    )


class WithoutPrivacy(_Reference, title="Without privacy"):
    """The same run with privacy.kind none: nothing is clipped, nothing is added."""

    kind: Literal["no_privacy"] = "no_privacy"


class WithoutNoise(_Reference, title="Without noise"):
    """The same run, clipped as it is, with a noise of 0: what the noise alone costs."""

    kind: Literal["no_noise"] = "no_noise"


Reference = Annotated[
    NoReference | WithoutPrivacy | WithoutNoise, Field(discriminator="kind"), Choice()
]


class GridSettings(Settings):
    """The runs of a trade-off: each epsilon with each learning rate and each seed."""

    epsilons: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        (1.0, 2.0, 4.0, 8.0),
        min_length=1,
        max_length=20,
        description="What a run may tell, at most; the noise of each is computed from it.",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (0, 1, 2),
        min_length=1,
        max_length=50,
        description="Every run is repeated with each: another partition, first model and batches. "
        "Intervals need at least two.",
    )
    learning_rates: tuple[LearningRate, ...] = Field(
        (),
        max_length=10,
        description="Rates tried at each epsilon, of which the best is shown; none: "
        "training.learning_rate.",
    )
    metric: Metric = Field("accuracy", description="What is compared.")
    split: Literal["val", "test"] = Field("test", description="Where it is measured.")
    reference: Reference = Field(
        WithoutPrivacy(), description="What the loss of quality is counted from."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Nominal coverage of the intervals.")

    @field_validator("epsilons", "seeds", "learning_rates")
    @classmethod
    def _once_each(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{list(value)} names something twice; name each once.")
        if not all(map(math.isfinite, value)):
            raise ValueError(f"{list(value)} holds a number that is not finite; remove it.")
        return value
