"""Build steps of ``prefect.yaml``: what a deployment takes from our own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The checkout: prefect.yaml and configs/ lie beside the packages.
PROJECT = Path(__file__).resolve().parent.parent


def config_parameters(file: str) -> dict[str, Any]:
    """The sections of a run configuration, for ``parameters`` in ``prefect.yaml``.

    Every choice is written out, so that the operator's form shows what will run. A step with
    ``id: config`` offers the section ``model`` as ``{{ config.model }}``.

    Args:
      file: YAML file below the project's folder.

    Raises:
      fedcore.config.ConfigError: the file is missing or refused.
    """
    from fedcore.config import load_config

    return load_config(PROJECT / file).model_dump(mode="json")
