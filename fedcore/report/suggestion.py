"""Batches for a promise, for people: a table with the recommended row, and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedcore.privacy.suggestion import Suggestion
from fedcore.report.tables import markdown_table


def suggestion_table(found: Suggestion, of: str) -> str:
    """A row per batch: its noise with as many steps, and with as much work, as now.

    Args:
      of: what is sampled: records or clients.
    """
    rows = [
        [
            f"**{one.batch}**" if one == found.recommended else one.batch,
            f"{one.sampling_rate:.3g}",
            f"{one.noise_multiplier:.3f}",
            f"{one.step_noise:.2e}",
            f"{one.signal:.0%}",
            f"{one.compute:.3g}x",
            one.same_work,
            f"{one.same_work_noise:.3f}",
            f"{one.same_work_step_noise:.2e}",
            "recommended" if one == found.recommended else "now" if one.compute == 1 else "",
        ]
        for one in found.candidates
    ]
    steps = found.recommended.steps
    header = [f"{of} in a step", "rate", f"noise multiplier, {steps} steps", "noise / batch"]
    header += ["signal", "work", "steps, same work", "noise multiplier then"]
    header += ["noise / batch then", ""]
    return markdown_table(header, rows)


def suggestion_notes(found: Suggestion, of: str) -> list[str]:
    """What the figures mean, the recommendation and why."""
    return [
        f"Take {found.recommended.batch} {of} in a step: {found.reason}",
        f"For epsilon {found.epsilon:.4g} at delta {found.delta:g}, of {found.population} {of}. "
        "Noise / batch is the noise on the mean gradient in clip norms; signal compares it with "
        "everybody in each step. A quieter step bears a larger learning rate. Steps are what the "
        "model needs: with as much work as now a larger batch has fewer of them.",
    ]


def as_options(overrides: Mapping[str, Any]) -> str:
    """Overrides as they are pasted behind ``fedloom run FILE``.

    >>> as_options({"privacy.epsilon": 3.0, "training.epochs": None})
    '-o privacy.epsilon=3 -o training.epochs=null'
    """
    return " ".join(f"-o {key}={_plain(value)}" for key, value in overrides.items())


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
