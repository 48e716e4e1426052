"""What the audit looks for, how severe it is, and what is done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from fedcore.settings import Settings

CheckName = Literal[
    "schema",
    "values",
    "blank-images",
    "empty-texts",
    "text-lengths",
    "labels",
    "class-support",
    "split-sizes",
    "exact-duplicates",
    "repeated-samples",
    "conflicting-labels",
    "shared-by-owners",
    "near-duplicates",
    "one-client",
    "every-sample",
    "shared-by-clients",
    "alike-at-clients",
]


class NearDuplicates(Settings):
    """Images or texts that are nearly the same across splits, by perceptual hashes or MinHash;
    texts across clients too."""

    enabled: bool = Field(default=True, description="Look for near duplicates (images and texts).")
    threshold: int = Field(
        default=2,
        ge=0,
        le=16,
        description="Differing bits of 64 up to which two images count as near duplicates.",
    )
    similarity: float = Field(
        default=0.8,
        ge=0.5,
        le=1.0,
        description="Share of runs of five words that two texts have in common, of all that either "
        "has (Jaccard), from which they count as near duplicates.",
    )


class AuditSettings(Settings):
    """The data audit gate."""

    remedy: Literal["stop", "drop-from-train", "accept"] = Field(
        default="stop",
        description="For samples that cross splits or owners: stop the run; drop them from the "
        "training split (from validation, if they are in validation and test) and go on; or accept "
        "the findings as they are and go on.",
    )
    min_class_support: int = Field(
        default=5, ge=1, description="Training samples that every label needs at least."
    )
    value_range: tuple[float, float] | None = Field(
        default=None, description="Lowest and highest value allowed in any input."
    )
    value_ranges: Mapping[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="Lowest and highest value allowed in single columns of a table, by name.",
    )
    near_duplicates: NearDuplicates = Field(
        NearDuplicates(),
        description="Images or texts that are nearly the same across splits; texts at two clients.",
    )
    most_words: int = Field(
        default=200,
        ge=1,
        description="Words of a text that the model reads; it cuts longer ones, which is a "
        "warning. 256 tokens are about 200 words of English.",
    )
    severity: Mapping[CheckName, Literal["error", "warning", "off"]] = Field(
        default_factory=dict, description="Another severity for single checks, or off."
    )

    @field_validator("value_range", "value_ranges")
    @classmethod
    def _ordered(cls, value: object) -> object:
        ranges = value if isinstance(value, Mapping) else {"value_range": value}
        for name, bounds in ranges.items():
            if bounds is not None and not bounds[0] <= bounds[1]:
                raise ValueError(f"{name}={bounds}: the lowest value comes first.")
        return value
