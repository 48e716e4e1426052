"""What bit-for-bit parity is claimed within: device kind, precision, releases, CPU capability."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError, entry_points
from pathlib import Path
from typing import Any

RELEASES = ("torch", "numpy", "transformers", "peft", "opacus")
PLUGIN_GROUPS = (
    "fedloom.data",
    "fedloom.models",
    "fedloom.partitioners",
    "fedloom.strategies",
)


def numerics(*, device: str, dtype: str, backend: str) -> dict[str, Any]:
    """The settings of arithmetic, as JSON for job keys and records.

    Args:
      device: kind only (``cpu``, ``cuda``, ``mps``), as chosen by policy.
      dtype: of training arithmetic, e.g. ``float32``.
      backend: ``loop`` or ``trainer``.
    """
    import torch

    return {
        "device": device,
        "dtype": dtype,
        "backend": backend,
        "torch": _release("torch"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


@cache
def _release(name: str) -> str:
    """Of an installed distribution: read once, each job asks for it."""
    return metadata.version(name)


@cache
def code_digest() -> str:
    """SHA-256 of fedcore's sources, each plug-in package's sources and the numeric releases."""
    hasher = hashlib.sha256()
    packages = {"fedcore"}
    for group in PLUGIN_GROUPS:
        packages |= {point.module.split(".")[0] for point in entry_points(group=group)}
    for package in sorted(packages):
        spec = importlib.util.find_spec(package)
        if spec is None:
            hasher.update(f"{package} cannot be imported\n".encode())
        elif spec.submodule_search_locations:
            for folder in spec.submodule_search_locations:
                _add_sources(hasher, Path(folder), package)
        elif spec.origin:
            hasher.update(Path(spec.origin).read_bytes())
    for name in RELEASES:
        try:
            hasher.update(f"{name}=={metadata.version(name)}\n".encode())
        except PackageNotFoundError:
            hasher.update(f"{name} absent\n".encode())
    return hasher.hexdigest()


def _add_sources(hasher: Any, folder: Path, name: str) -> None:
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.is_dir() and item.name != "__pycache__":
            _add_sources(hasher, item, f"{name}/{item.name}")
        elif item.name.endswith(".py"):
            data = item.read_bytes()
            hasher.update(f"{name}/{item.name}:{len(data)}\n".encode() + data)
