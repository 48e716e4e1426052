"""Which layers of a transformer get low-rank adapters, and of which size."""

from __future__ import annotations

from pydantic import Field

from fedcore.adapters.scaling import Scaling
from fedcore.settings import Settings


class AdapterSettings(Settings):
    """Low-rank adapters (LoRA): the frozen weight W acts as W + scaling B A.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, section 4.1.
    https://arxiv.org/abs/2106.09685
    """

    rank: int = Field(8, ge=1, le=1024, description="Rank r of each adapter.")
    alpha: float = Field(16.0, gt=0, description="The adapter's product is scaled by alpha / r.")
    rslora: bool = Field(
        False, description="Scale by alpha over the root of r, so that large ranks learn as fast."
    )
    dora: bool = Field(
        False, description="Train the length of each row of the weight apart (DoRA); slower."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout probability before the adapter; 0 is fast."
    )
    targets: tuple[str, ...] = Field(
        (),
        description="Names of linear layers inside a block, e.g. query; empty: queries and values "
        "where they are found, else all.",
    )
    layers: int | None = Field(
        None,
        ge=1,
        description="Blocks from the top that get adapters; null: all. What is below the first of "
        "them runs once per text or image.",
    )

    @property
    def scaling(self) -> Scaling:
        """Factor of B A by rank."""
        return Scaling(self.alpha, self.rslora)
