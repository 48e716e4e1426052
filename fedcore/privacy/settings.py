"""What a run promises about records or clients, and how the noise for it is found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedcore.form import Choice
from fedcore.privacy.group_settings import GroupSettings, NoGroups, largest_budget
from fedcore.settings import Settings

Secret = Literal["owner", "fixed"]


class NoPrivacy(Settings, title="None"):
    """Updates may tell about single records."""

    kind: Literal["none"] = "none"


class _Promise(Settings):
    """What both units of privacy share."""

    epsilon: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="What the whole run may tell, at most; the noise is computed from it (8 if "
        "noise_multiplier is not set; the largest of groups' where they have their own). More "
        "rounds then mean more noise in each.",
    )
    noise_multiplier: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="Standard deviation of the noise over clip_norm, instead of epsilon: rounds "
        "can be added later, and cost more epsilon.",
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="Chance that the promise fails; far below 1 / records."
    )
    secret: Secret = Field(
        "owner",
        description="Noise from each data owner's own secret; or from a fixed one that everybody "
        "can compute, for simulations that must repeat: those are not private, and say so.",
    )

    @model_validator(mode="before")
    @classmethod
    def _eight_unless_told(cls, data: Any) -> Any:
        told = isinstance(data, dict) and (
            data.get("epsilon") is not None or data.get("noise_multiplier") is not None
        )
        if told or not isinstance(data, dict):
            return data
        return {**data, "epsilon": largest_budget(data.get("groups")) or 8.0}

    @model_validator(mode="after")
    def _one_of_both(self) -> _Promise:
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise ValueError(
                f"epsilon={self.epsilon:g} and noise_multiplier={self.noise_multiplier:g} are both "
                "set; each follows from the other. Remove one."
            )
        return self


class ExampleLevel(_Promise, title="Each record"):
    """Whether any one record was in a client's training data can hardly be told: DP-SGD."""

    kind: Literal["example"] = "example"
    clip_norm: float = Field(
        1.0, gt=0, description="Each record's gradient is scaled down to this L2 norm."
    )
    groups: GroupSettings = Field(
        NoGroups(),
        description="Whether groups of persons have budgets of their own; the data must say each "
        "record's group.",
    )
    micro_batch: int = Field(
        256, ge=1, le=65536, description="Records whose gradients are in memory at once."
    )
    data_budget: float | None = Field(
        None,
        gt=0,
        description="A client whose data would have told more than this epsilon, over all runs of "
        "this installation, refuses the round. Sites have their own in their policy.",
    )

    @model_validator(mode="after")
    def _groups_can_be_kept(self) -> ExampleLevel:
        if isinstance(self.groups, NoGroups):
            return self
        kind, most = f"groups.kind={self.groups.kind!r}", largest_budget(self.groups)
        if self.epsilon is None or most is None:
            raise ValueError(
                f"noise_multiplier={self.noise_multiplier} with {kind}: the noise follows from the "
                "groups' epsilons. Remove noise_multiplier, or set groups: {kind: none}."
            )
        if most > self.epsilon:
            raise ValueError(
                f"groups may tell {most:g}, which is more than epsilon={self.epsilon:g} of the "
                "whole run. Lower the group's, or raise epsilon or leave it out."
            )
        if self.data_budget is not None:
            raise ValueError(
                f"data_budget={self.data_budget:g} with {kind}: each group's epsilon is the budget "
                "of its records over all runs already. Remove data_budget."
            )
        return self


class LocalLevel(_Promise, title="Each update"):
    """Each client hides its whole data before its update leaves, from the coordinator too.

    The strongest promise and the most noise: every single update carries all of it.
    """

    kind: Literal["local"] = "local"
    clip_norm: float = Field(
        1.0, gt=0, description="Each client scales its update down to this L2 norm."
    )


class ClientLevel(_Promise, title="Each client"):
    """Whether any one client took part can hardly be told: clipped updates, one noisy sum.

    Useful with hundreds of clients; ten cannot hide one another.
    """

    kind: Literal["client"] = "client"
    clip_norm: float = Field(
        1.0, gt=0, description="Each client's update is scaled down to this L2 norm."
    )
    norm_of: Literal["update", "product"] = Field(
        "update",
        # What a configuration that does not ask for it was before this choice is what it is.
        exclude_if=lambda value: value == "update",
        description="What is scaled down and noised evenly: the numbers that a client sends, or "
        "the change of the weights that its adapters make, with the head's. product needs adapters "
        "whose A is frozen.",
    )
    quantile: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Let the clip norm follow this quantile of the updates' norms; its cost is "
        "in the noise. Null: it stays.",
    )
    clip_learning_rate: float = Field(
        0.2, gt=0, le=2, description="How fast the clip norm follows the quantile."
    )
    count_stddev: float | None = Field(
        None,
        gt=0,
        description="Noise on the count that the quantile needs; null: a twentieth of the "
        "expected clients, or the noise multiplier where that is more.",
    )
    examples_cap: int | None = Field(
        None,
        ge=1,
        description="Weigh a client by its examples up to so many; null: all weigh the same.",
    )
    correlation: Literal["none", "banded"] = Field(
        "none",
        description="Whether the noise of a round takes back part of that of earlier rounds, so "
        "that less of it stays in the model for the same epsilon. banded: DP-FTRL by a banded "
        "matrix, with as many bands as participation.kind=cyclic has groups.",
    )


PrivacySettings = Annotated[
    NoPrivacy | ExampleLevel | LocalLevel | ClientLevel, Field(discriminator="kind"), Choice()
]
