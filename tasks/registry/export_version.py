"""A registered model version in the formats of PEFT and ``transformers``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tasks.registry import tags
from tasks.registry.connection import registry
from tasks.registry.exported import export_adapter, export_merged
from tasks.registry.promote import resolve_version


def export_version(tracking_uri: str, version: str, folder: Path, *, merged: bool) -> None:
    """Writes a version's adapters, or with ``merged`` one whole checkpoint.

    Its tensors are checked against the registered digests.

    Args:
      tracking_uri: of the registry.
      version: ``NAME/3``, ``NAME@champion`` or ``models:/...``.
      folder: is made.

    Raises:
      ValueError: there is no such version, it is no such model, or the folder is there.
      LookupError: it was not made by Fedloom.
      RegistryUnavailable: MLflow does not answer.
    """
    from mlflow.artifacts import download_artifacts

    if folder.exists():
        raise ValueError(f"folder={str(folder)!r} is there; name one that is not.")
    with (
        registry(tracking_uri) as client,
        tempfile.TemporaryDirectory(prefix="fedloom-") as scratch,
    ):
        chosen = resolve_version(client, version)
        model_id = client.get_model_version(chosen.name, chosen.version).tags.get(tags.LOGGED_MODEL)
        if model_id is None:
            raise LookupError(f"{chosen} was not made by Fedloom: it names no logged model.")
        location = str(client.get_logged_model(model_id).artifact_location)
        served = download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/artifacts/model",
            dst_path=scratch,
            tracking_uri=client.tracking_uri,
        )
        (export_merged if merged else export_adapter)(folder, Path(served))
