"""Whether a run is attacked before its model is registered; what is tried, and how hard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fedcore.form import Choice
from fedcore.settings import Settings


class NoAttacks(Settings, title="None"):
    """Nothing is attacked."""

    kind: Literal["none"] = "none"


class PrivacyAuditSettings(Settings, title="Privacy audit"):
    """One client's training is attacked, and what that finds is held against the claimed epsilon.

    A model version carries what was found; one whose claim is refuted is not promoted.
    """

    kind: Literal["audit"] = "audit"
    client: str = Field(
        "",
        max_length=200,
        description="Client that is attacked; the one with the fewest rows when left empty.",
    )
    canaries: int = Field(
        1000,
        ge=100,
        le=20000,
        description="Random records hidden among the client's rows. 1000 can refute claims up to "
        "about 4, more canaries larger ones; in a model of few parameters fewer are seen better.",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Probability that the lower bound on epsilon holds."
    )
    sees: Literal["updates", "model"] = Field(
        "updates",
        description="The attacker sees all that the client sent, or only the last model.",
    )
    shadow_models: int = Field(
        24, ge=0, le=256, description="Models trained for membership inference; 0 leaves it out."
    )
    records: int = Field(
        1000, ge=20, le=20000, description="Rows of the client in membership inference, at most."
    )
    reconstructions: int = Field(
        3, ge=0, le=16, description="Rows that are reconstructed from one update each."
    )
    steps: int = Field(400, ge=10, le=20000, description="Steps of each search for a row.")

    @field_validator("shadow_models")
    @classmethod
    def _even(cls, value: int) -> int:
        if value and (value % 2 or value < 6):
            raise ValueError(
                f"shadow_models={value} must be even and at least 6, so that each row is in half "
                "of the models; 0 leaves membership inference out."
            )
        return value


AttackSettings = Annotated[NoAttacks | PrivacyAuditSettings, Field(discriminator="kind"), Choice()]
