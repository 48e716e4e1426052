"""A run's config and rounds as MLflow parameters and metrics, within MLflow's limits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedcore.evaluation import HIGHER_IS_BETTER, summarise
from fedcore.report.history import curves_of

if TYPE_CHECKING:
    from mlflow.entities import Metric

# mlflow.utils.validation, release 3.17.
MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_PARAMS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000

MOST_CLIENTS = 100
"""With more clients, metrics of single clients stay in the round chain and the worst is logged."""

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_\-. :/]")


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The config by dotted key, the way overrides are written; lists and empty sections as JSON.

    >>> flatten_config({"rounds": 3, "strategy": {"kind": "fedprox", "mu": 0.1}, "tags": ["a"]})
    {'rounds': '3', 'strategy.kind': 'fedprox', 'strategy.mu': '0.1', 'tags': '["a"]'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten_config(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            if len(text) > MAX_PARAM_VALUE:
                text = text[: MAX_PARAM_VALUE - 1] + "…"
            flat[mlflow_key(f"{prefix}{key}")] = text
    return flat


def mlflow_key(name: str) -> str:
    """``name`` with what MLflow does not accept in a key replaced by ``_``, at most 250 long."""
    return _FORBIDDEN.sub("_", name)[:MAX_KEY]


def metric_values(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """(key, value, round) of all that was measured; undefined values are left out or NaN.

    Keys: ``clients/asked``, ``clients/done``, ``adapter_error``, ``val/accuracy``,
    ``val/accuracy/worst_client``, ``val/accuracy/client/cleveland``.
    """
    for record in records:
        outcomes = record.get("outcomes") or {}
        done = sum(1 for outcome in outcomes.values() if outcome.get("status") == "done")
        yield "clients/asked", float(len(outcomes)), int(record["round"])
        yield "clients/done", float(done), int(record["round"])
        if (error := (record.get("adapters") or {}).get("error")) is not None:
            yield "adapter_error", float(error), int(record["round"])
    for split, metrics in curves_of(records).items():
        for metric, curve in metrics.items():
            for step, round_ in enumerate(curve.rounds.tolist()):
                each = {
                    client: float(values[step])
                    for client, values in curve.clients.items()
                    if not math.isnan(values[step])
                }
                yield f"{split}/{metric}", float(curve.overall[step]), round_
                if metric in HIGHER_IS_BETTER and each:
                    worst = summarise({c: {metric: value} for c, value in each.items()}, metric)
                    yield f"{split}/{metric}/worst_client", worst[1], round_
                if len(each) <= MOST_CLIENTS:
                    for client, value in each.items():
                        yield f"{split}/{metric}/client/{client}", value, round_


def model_values(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The chosen model's metrics, ``model/test/accuracy`` and ``model/test/accuracy/worst_client``.

    Beside the curves: the best round need not be the last one, which MLflow shows of a curve.
    """
    values = {}
    for split, measured in evaluation.items():
        overall, clients = measured.get("overall") or {}, measured.get("clients") or {}
        for metric in HIGHER_IS_BETTER:
            if metric in overall:
                values[f"model/{split}/{metric}"] = float(overall[metric])
            if worst := summarise(clients, metric):
                values[f"model/{split}/{metric}/worst_client"] = worst[1]
    return values


def metric_batches(records: Sequence[Mapping[str, Any]], started_ms: int) -> Iterator[list[Metric]]:
    """Batches for ``log_batch``.

    Args:
      records: JSON of rounds.
      started_ms: start of the MLflow run. A round's time stamp is that plus its number: MLflow
        drops a metric that equals one it has, so that a retry adds nothing.
    """
    from mlflow.entities import Metric

    entities = [
        Metric(mlflow_key(key), value, started_ms + round_, round_)
        for key, value, round_ in metric_values(records)
        if not math.isnan(value)
    ]
    for start in range(0, len(entities), MAX_METRICS_PER_BATCH):
        yield entities[start : start + MAX_METRICS_PER_BATCH]
