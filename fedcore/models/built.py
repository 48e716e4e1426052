"""What settings of models without pretrained weights share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fedcore.models.preprocess import Preprocess, default_preprocess
from fedcore.settings import Settings

Dropout = Annotated[float, Field(ge=0, lt=1, description="Dropout probability.")]


class Built(Settings):
    """A model without pretrained weights that reads images in [-1, 1] or a scaled table."""

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """How the model reads inputs that ``features`` describes."""
        return default_preprocess(features)

    def checkpoint(self) -> Path | None:
        """Folder of the pretrained weights; None: there are none."""
        return None

    def backbone_digest(self) -> str | None:
        """SHA-256 of the pretrained weights that do not travel; None: there are none."""
        return None

    def identity(self) -> dict[str, Any]:
        """JSON for job keys: everything that decides the built module, no paths."""
        return self.model_dump(mode="json")
