"""Metrics of a run's rounds as curves: split -> metric -> overall and per client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One metric of one split over rounds.

    Attributes:
      rounds: (r,) int64, rising, the rounds in which it was measured.
      overall: (r,) float64, NaN where undefined.
      clients: client id -> (r,) float64, NaN where the client was not measured; only those that
        ever were.
    """

    rounds: np.ndarray
    overall: np.ndarray
    clients: Mapping[str, np.ndarray] = field(default_factory=dict)


def curves_of(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    """The curves in the ``metrics`` of round records.

    Args:
      records: JSON values with ``round`` and ``metrics``: split -> ``{"overall": {metric: value},
        "clients": {client: {metric: value}}}``; what is undefined is absent or None.

    Returns:
      split -> metric -> curve; splits and metrics in order of first appearance.
    """
    rows: dict[str, dict[str, dict[int, Mapping[str, Any]]]] = {}
    for record in records:
        for split, measured in (record.get("metrics") or {}).items():
            overall = measured.get("overall") or {}
            clients = measured.get("clients") or {}
            names = dict.fromkeys([*overall, *(name for each in clients.values() for name in each)])
            names.pop("num_examples", None)
            for metric in names:
                rows.setdefault(split, {}).setdefault(metric, {})[int(record["round"])] = {
                    "overall": overall.get(metric),
                    "clients": {client: each.get(metric) for client, each in clients.items()},
                }
    return {
        split: {metric: _curve(by_round) for metric, by_round in metrics.items()}
        for split, metrics in rows.items()
    }


def _curve(by_round: Mapping[int, Mapping[str, Any]]) -> Curve:
    rounds = sorted(by_round)
    clients = {
        client: np.array([_number(by_round[r]["clients"].get(client)) for r in rounds])
        for client in sorted({client for row in by_round.values() for client in row["clients"]})
    }
    return Curve(
        rounds=np.array(rounds, dtype=np.int64),
        overall=np.array([_number(by_round[r]["overall"]) for r in rounds]),
        clients={c: values for c, values in clients.items() if not np.isnan(values).all()},
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
