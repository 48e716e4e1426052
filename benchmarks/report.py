"""The reports of benchmarks: markdown to read, JSON to compare, and what they were made on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("torch", "numpy", "scikit-learn", "transformers")


def machine() -> dict[str, Any]:
    """Cores, CPU capability and releases; nothing that names the machine."""
    import torch

    from fedcore.numerics import code_digest

    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": 1,
        "python": platform.python_version(),
        "code": code_digest(),
        **{name: version(name) for name in PACKAGES},
    }


def spread(values: Sequence[float]) -> str:
    """``mean ± sample standard deviation``, or the one value.

    >>> spread([0.7, 0.8, 0.9])
    '0.800 ± 0.100'
    """
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile.

    >>> quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
    [2.0, 3.0, 4.0]
    """
    return [float(one) for one in np.quantile(values, (0.25, 0.5, 0.75))]


def write_report(folder: Path, name: str, title: str, body: Sequence[str], data: Any) -> None:
    """``folder/NAME.md`` and ``folder/NAME.json``; the markdown is printed too.

    Args:
      body: paragraphs and tables of the markdown, under ``title``.
      data: JSON; the runs with their configuration digests and metrics.
    """
    on, today = machine(), datetime.now(UTC).date().isoformat()
    made = (
        f"Made {today} on {on['cores']} cores ({on['architecture']}, {on['cpu_capability']}), one "
        f"torch thread per process; Python {on['python']}, "
        + ", ".join(f"{package} {on[package]}" for package in PACKAGES)
        + f"; fedcore sources {on['code'][:12]}."
    )
    text = "\n\n".join([f"# {title}", *body, made]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    value = {"title": title, "date": today, "machine": on, **data}
    (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    print(text)
