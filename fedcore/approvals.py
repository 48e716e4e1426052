"""When a run stops to ask a person: after the audit, when a score is crossed, before a version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedcore.settings import Settings

Metric = Literal["accuracy", "auc", "balanced_accuracy", "loss", "r2", "perplexity"]


class QualityBound(Settings):
    """A score on validation data that somebody wants to hear of."""

    metric: Metric = Field("accuracy", description="Measured on the validation split.")
    when: Literal["below", "above"] = Field(
        "below", description="The side of the bound that is asked about."
    )
    bound: float = Field(
        0.5, ge=-1e9, le=1e9, description="Asked once each time the score gets to that side."
    )
    from_round: int = Field(1, ge=1, description="Earlier rounds are not looked at.")

    def is_crossed(self, value: float) -> bool:
        """Whether a score is on the side that is asked about.

        >>> QualityBound(when="below", bound=0.6).is_crossed(0.6)
        False
        """
        return value < self.bound if self.when == "below" else value > self.bound


class ApprovalSettings(Settings):
    """Where the run waits for a person's decision. Not part of the config digest: what was decided
    is in the run's chain."""

    audit: Literal["never", "warnings", "always"] = Field(
        "never", description="After the audit and the partition, before the first round."
    )
    registration: bool = Field(
        False, description="After the last round, before the model version is registered."
    )
    quality: tuple[QualityBound, ...] = Field(
        (), max_length=16, description="After a round whose score crosses one of these."
    )
    epsilon: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        (),
        max_length=16,
        description="Before the first round that would take what the run has told, its epsilon, "
        "above one of these.",
    )
