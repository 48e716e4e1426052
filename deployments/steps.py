"""Build steps of ``prefect.yaml``: what a deployment takes from our own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The checkout: prefect.yaml and configs/ lie beside the packages.
PROJECT = Path(__file__).resolve().parent.parent


def config_parameters(file: str) -> dict[str, Any]:
    """A run configuration as flow parameters, so that ``prefect.yaml`` repeats nothing.

    Every choice is written out: the operator's form shows what will run.

    Args:
      file: YAML file below the project's folder.

    Returns:
      ``{"parameters": {section: values}}``; a step with ``id: config`` offers it as
      ``{{ config.parameters }}``.

    Raises:
      fedcore.config.ConfigError: the file is missing or refused.
    """
    from fedcore.config import load_config

    return {"parameters": load_config(PROJECT / file).model_dump(mode="json")}
