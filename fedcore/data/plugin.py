"""A data source that another installed package provides through an entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fedcore.data.dataset import Dataset
from fedcore.settings import Plugin, Settings

GROUP = "fedloom.data"


class DataPlugin(Settings, title="Plug-in"):
    """A source of an installed package: its entry point in the group ``fedloom.data``."""

    kind: Literal["plugin"] = "plugin"
    name: str = Field(description="Name of the entry point, as its package declares it.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the plug-in's function."
    )

    def load(self, folder: Path | None = None) -> Dataset:
        """What the plug-in's function returns when called as ``function(folder=..., **options)``.

        Raises:
          ValueError: no such entry point, or it returned something else than a ``Dataset``.
        """
        factory = Plugin(name=self.name, options=self.options).load(GROUP)
        dataset = factory(folder=folder, **self.options)
        if not isinstance(dataset, Dataset):
            raise ValueError(
                f"plugin name={self.name!r} returned {type(dataset).__name__}; a {GROUP} plug-in "
                "returns a fedcore.data.dataset.Dataset."
            )
        return dataset
