"""How training samples are divided among clients: one settings class per partitioner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedcore.form import Choice
from fedcore.partition.by_owner import by_owner
from fedcore.partition.dirichlet import dirichlet
from fedcore.partition.feature_skew import Statistic, feature_skew
from fedcore.partition.iid import iid
from fedcore.partition.inner_dirichlet import inner_dirichlet
from fedcore.partition.pathological import pathological
from fedcore.partition.quantity_skew import quantity_skew
from fedcore.partition.rare_label import rare_label
from fedcore.partition.shares import Partitioner
from fedcore.settings import Plugin, Settings

Clients = Annotated[int, Field(ge=1, le=100_000, description="Number of clients.")]
MinSize = Annotated[
    int, Field(ge=1, description="Training samples that each client gets at least.")
]
Alpha = Annotated[
    float,
    Field(
        ge=1e-3,
        le=1e6,
        description="Dirichlet concentration: large is even, 0.1 is strongly skewed.",
    ),
]


class Iid(Settings, title="Even"):
    """Every client a random sample of the whole, all of one size."""

    kind: Literal["iid"] = "iid"
    clients: Clients = 5

    def build(self) -> Partitioner:
        """The partitioner."""
        return iid(clients=self.clients)


class Dirichlet(Settings):
    """Each label is spread over the clients in Dirichlet proportions: label and size skew."""

    kind: Literal["dirichlet"] = "dirichlet"
    clients: Clients = 5
    alpha: Alpha = 0.5
    min_size: MinSize = 10

    def build(self) -> Partitioner:
        """The partitioner."""
        return dirichlet(clients=self.clients, alpha=self.alpha, min_size=self.min_size)


class InnerDirichlet(Settings, title="Sizes first"):
    """Client sizes are set first; each client has its own Dirichlet mix of labels."""

    kind: Literal["inner_dirichlet"] = "inner_dirichlet"
    clients: Clients = 5
    alpha: Alpha = 0.5
    sizes: tuple[float, ...] | None = Field(
        default=None, description="Relative size of each client, e.g. 4, 4, 1, 1, 1; empty: equal."
    )
    size_alpha: Alpha | None = Field(
        default=None,
        description="Draw the sizes from a Dirichlet distribution with this concentration.",
    )

    def build(self) -> Partitioner:
        """The partitioner.

        Raises:
          ValueError: sizes given twice, or not one positive size per client.
        """
        return inner_dirichlet(
            clients=self.clients, alpha=self.alpha, sizes=self.sizes, size_alpha=self.size_alpha
        )


class Pathological(Settings, title="Few labels"):
    """Each client has only a few labels."""

    kind: Literal["pathological"] = "pathological"
    clients: Clients = 5
    labels_per_client: int = Field(
        default=2, ge=1, description="Labels that each client has, exactly."
    )

    def build(self) -> Partitioner:
        """The partitioner."""
        return pathological(clients=self.clients, labels_per_client=self.labels_per_client)


class QuantitySkew(Settings, title="Sizes differ"):
    """Clients of very different sizes with the same label frequencies."""

    kind: Literal["quantity_skew"] = "quantity_skew"
    clients: Clients = 5
    alpha: Alpha = 0.5
    min_size: MinSize = 10

    def build(self) -> Partitioner:
        """The partitioner."""
        return quantity_skew(clients=self.clients, alpha=self.alpha, min_size=self.min_size)


class FeatureSkew(Settings, title="Inputs differ"):
    """Clients with the same labels and different inputs, e.g. dark and bright scanners."""

    kind: Literal["feature_skew"] = "feature_skew"
    clients: Clients = 5
    statistic: Statistic = Field(
        default="level",
        description="Sort inputs by their mean level or by their contrast; texts by their length "
        "or by that of their words.",
    )
    strength: float = Field(default=1.0, ge=0, le=1, description="1 sorts strictly, 0 is IID.")
    within_labels: bool = Field(
        default=True, description="Keep label frequencies equal: sort inside each label."
    )

    def build(self) -> Partitioner:
        """The partitioner."""
        return feature_skew(
            clients=self.clients,
            statistic=self.statistic,
            strength=self.strength,
            within_labels=self.within_labels,
        )


class RareLabel(Settings, title="Rare label"):
    """One site holds most cases of the rarest label; all else is spread evenly."""

    kind: Literal["rare_label"] = "rare_label"
    clients: Annotated[int, Field(ge=2, le=100_000, description="Number of clients.")] = 5
    share: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Fraction of the rarest label that the first client holds.",
    )

    def build(self) -> Partitioner:
        """The partitioner."""
        return rare_label(clients=self.clients, share=self.share)


class ByOwner(Settings, title="By owner"):
    """The natural clients of the data set, e.g. hospitals."""

    kind: Literal["by_owner"] = "by_owner"

    def build(self) -> Partitioner:
        """The partitioner."""
        return by_owner()


# Five sites each; for another number of sites write the partitioner itself.
Presettable = Dirichlet | InnerDirichlet | RareLabel | FeatureSkew
PRESETS: dict[str, Presettable] = {
    "mild": Dirichlet(clients=5, alpha=1.0),
    "strong": Dirichlet(clients=5, alpha=0.1),
    "two-large-three-small": InnerDirichlet(clients=5, alpha=5.0, sizes=(4, 4, 1, 1, 1)),
    "one-large-four-small": InnerDirichlet(clients=5, alpha=5.0, sizes=(16, 1, 1, 1, 1)),
    "rare-disease-site": RareLabel(clients=5, share=0.8),
    "different-scanners": FeatureSkew(clients=5, strength=0.8),
}
Site = Literal[
    "mild",
    "strong",
    "two-large-three-small",
    "one-large-four-small",
    "rare-disease-site",
    "different-scanners",
]


class Preset(Settings):
    """A named picture of five sites, made of the other partitioners."""

    kind: Literal["preset"] = "preset"
    name: Site = Field(default="mild", description="Which picture of site skew.")

    def build(self) -> Partitioner:
        """The partitioner of the settings that the name stands for."""
        return self.resolved().build()

    def resolved(self) -> Presettable:
        """The settings that the name stands for."""
        return PRESETS[self.name]


class PartitionPlugin(Plugin, title="Plug-in"):
    """A partitioner of another installed package (entry point group ``fedloom.partitioners``)."""

    def build(self) -> Partitioner:
        """What the entry point's factory returns for ``options``."""
        partitioner: Partitioner = self.load("fedloom.partitioners")(**self.options)
        return partitioner


PartitionSettings = Annotated[
    Iid
    | Dirichlet
    | InnerDirichlet
    | Pathological
    | QuantitySkew
    | FeatureSkew
    | RareLabel
    | ByOwner
    | Preset
    | PartitionPlugin,
    Field(discriminator="kind"),
    Choice(),
]
