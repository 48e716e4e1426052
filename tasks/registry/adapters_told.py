"""What a reviewer is told of a pretrained model and its adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from fedcore.adapters.choice import resolved
from fedcore.adapters.layers import layers_of
from fedcore.adapters.settings import AdapterAggregation
from fedcore.models.parts import part_of
from fedcore.models.weights import QUANTISED
from fedcore.tensors import Arrays
from tasks.registry import tags
from tasks.registry.exported import adapter_words, rank_words, shown_name
from tasks.registry.finished_run import FinishedRun


def trained_parameters(params: Arrays) -> int:
    """How many numbers clients train; what is carried only is not counted."""
    return sum(array.size for name, array in params.items() if part_of(name) != "residual")


def base_and_adapters(run: FinishedRun) -> dict[str, str]:
    """The base model and its digest, the adapters, their ranks, and how they were combined."""
    model, facts = run.config["model"], {}
    if (digest := run.tags[tags.BACKBONE_DIGEST]) != "none":
        name = f"{shown_name(model['name'])}, revision {model['revision']}"
        facts["base model"] = f"{name}, SHA-256 `{digest}`"
        if model["base"] in QUANTISED:
            facts["base model"] += f"; trained on {model['base']} weights, served in bfloat16"
    if model.get("mode") != "adapters":
        return facts
    ranks = {layer.name: len(run.params[layer.a]) for layer in layers_of(run.params)}
    facts["adapters"] = f"{adapter_words(model['adapter'])}; {len(ranks)} layers, ranks of this "
    facts["adapters"] += f"model {rank_words(ranks)}"
    if any(part_of(name) == "residual" for name in run.params):
        facts["adapters"] += "; corrections of the frozen weights beside them"
    facts["adapters combined"] = _combined(run.config, run.records)
    return facts


def _combined(config: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """By which rule, and how far the product was off the mean of the clients' products."""
    chosen: Any = TypeAdapter(AdapterAggregation).validate_python(config["aggregation"]["adapters"])
    rule = resolved(chosen, config["privacy"]["kind"] != "none")
    errors = [(record.get("adapters") or {}).get("error") for record in records]
    found = [error for error in errors if error is not None]
    if not found:
        return f"{rule.kind}; relative error not told"
    return (
        f"{rule.kind}; relative error {found[-1]:.2g} in the last round, at most {max(found):.2g}"
    )
