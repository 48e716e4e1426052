"""Groups of persons whose records may tell more or less than others', in one training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedcore.data.owners import CLIENT_ID
from fedcore.form import Choice
from fedcore.settings import Settings

GroupEpsilon = Annotated[float, Field(gt=0, le=1000)]


class NoGroups(Settings, title="All alike"):
    """All records have the same budget."""

    kind: Literal["none"] = "none"


class _Groups(Settings):
    """What both ways share."""

    epsilons: dict[str, GroupEpsilon] = Field(
        default_factory=dict,
        description="Group -> what its records may tell in all private runs of this installation "
        "together; the noise is computed for a run that spends it all.",
    )
    others: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="The same for groups that epsilons does not name. Not set: there may be none.",
    )

    @model_validator(mode="after")
    def _budgets_make_sense(self) -> _Groups:
        if largest_budget(self) is None:
            raise ValueError(
                "epsilons={} and others=null: no group has a budget. Name each group's, or set "
                "kind: none."
            )
        for group in self.epsilons:
            if not CLIENT_ID.fullmatch(group):
                raise ValueError(
                    f"epsilons names {group!r}, which cannot be the name of a group: 1 to 64 "
                    "letters, digits, '_', '.' or '-', the first a letter or digit. Spaces in the "
                    "data are '-' here."
                )
        return self

    def budget_of(self, group: str) -> float | None:
        """Epsilon of a group; None where it has none."""
        return self.epsilons.get(group, self.others)


class GroupsBySampling(_Groups, title="By sampling"):
    """Those who allow more take part more often (Boenisch et al. 2023, Sample)."""

    kind: Literal["sampling"] = "sampling"


class GroupsByClip(_Groups, title="By clipping"):
    """Those who allow more count for more: a larger clip norm (Boenisch et al. 2023, Scale)."""

    kind: Literal["clip"] = "clip"


GroupSettings = Annotated[
    NoGroups | GroupsBySampling | GroupsByClip, Field(discriminator="kind"), Choice()
]


def largest_budget(groups: Any) -> float | None:
    """The largest epsilon of settings, or of what may become some; None: they name no number."""
    given = groups if isinstance(groups, Mapping) else dict(groups or ())
    named = given.get("epsilons")
    values = [*(named.values() if isinstance(named, Mapping) else ()), given.get("others")]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    return max(numbers, default=None)
