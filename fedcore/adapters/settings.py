"""The rules of aggregation for adapters that a config can name, and the ranks of clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedcore.adapters.alternating import alternating
from fedcore.adapters.frozen_a import frozen_a
from fedcore.adapters.mean import mean
from fedcore.adapters.residual import residual
from fedcore.adapters.rule import AdapterRule
from fedcore.adapters.stacking import stacking
from fedcore.adapters.svd import svd
from fedcore.form import Choice
from fedcore.settings import Settings


class Automatic(Settings):
    """Frozen A where privacy is promised, the mean of the factors else."""

    kind: Literal["automatic"] = "automatic"


class Mean(Settings):
    """The mean of A and the mean of B (FedIT): cheap, and not the mean of the products."""

    kind: Literal["mean"] = "mean"

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return mean()


class FrozenA(Settings, title="Frozen A"):
    """A stays as it was drawn, clients train B (FFA-LoRA): exact, half of the bytes."""

    kind: Literal["frozen_a"] = "frozen_a"

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return frozen_a()


class Alternating(Settings):
    """B in one round, A in the next (RoLoRA): exact, half of the bytes."""

    kind: Literal["alternating"] = "alternating"

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return alternating()


class Stacking(Settings):
    """Products go into the carried weight, adapters begin anew each round (FLoRA): exact."""

    kind: Literal["stacking"] = "stacking"

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return stacking()


class Residual(Settings):
    """The mean of the factors; what it misses goes into the carried weight (FedEx-LoRA): exact."""

    kind: Literal["residual"] = "residual"

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return residual()


class Svd(Settings, title="SVD"):
    """The mean product cut back to the adapter's rank by singular values (FlexLoRA, HLoRA)."""

    kind: Literal["svd"] = "svd"
    budget: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Choose each layer's rank every round, so that the adapters have at most this "
        "part of their parameters. Null: the adapter's rank in every layer.",
    )

    def build(self) -> AdapterRule:
        """The rule as a value."""
        return svd(budget=self.budget)


Rule = Mean | FrozenA | Alternating | Stacking | Residual | Svd

AdapterAggregation = Annotated[Automatic | Rule, Field(discriminator="kind"), Choice()]


class SameRank(Settings, title="The adapter's"):
    """Every client trains all directions of the global adapters."""

    kind: Literal["same"] = "same"

    def rank_of(self, client: str, num_examples: int) -> int | None:
        """None: the ranks of the global model."""
        return None


class GivenRanks(Settings, title="Given"):
    """What each client can hold, by name; who is not named trains all directions."""

    kind: Literal["given"] = "given"
    ranks: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=dict, description="Client: its rank."
    )

    def rank_of(self, client: str, num_examples: int) -> int | None:
        """As given; None: the ranks of the global model."""
        return self.ranks.get(client)


class RanksBySize(Settings, title="By rows"):
    """A client with few rows trains few directions. Its own number of rows decides alone."""

    kind: Literal["by_size"] = "by_size"
    examples_per_rank: int = Field(
        64, ge=1, description="Training examples that a client needs for each direction."
    )
    lowest: int = Field(1, ge=1, le=1024, description="Rank of the smallest clients.")

    def rank_of(self, client: str, num_examples: int) -> int | None:
        """One direction for so many examples; the adapter's own rank is the most."""
        return max(self.lowest, num_examples // self.examples_per_rank)


ClientRanks = Annotated[SameRank | GivenRanks | RanksBySize, Field(discriminator="kind"), Choice()]
