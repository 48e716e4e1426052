"""Which checks belong to images, tables, texts and partitions, and the rules they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.audit.checks.clients import (
    check_every_sample,
    check_one_client,
    check_shared_by_clients,
)
from fedcore.audit.checks.content import check_blank_images, check_schema, check_values
from fedcore.audit.checks.duplicates import (
    check_conflicting_labels,
    check_exact_duplicates,
    check_repeated_samples,
    check_shared_by_owners,
)
from fedcore.audit.checks.labels import check_class_support, check_labels
from fedcore.audit.checks.near import check_near_duplicates
from fedcore.audit.checks.near_clients import check_alike_at_clients
from fedcore.audit.checks.near_texts import check_near_texts
from fedcore.audit.checks.sizes import check_split_sizes
from fedcore.audit.checks.texts import check_empty_texts, check_readable, check_text_lengths
from fedcore.audit.finding import Finding
from fedcore.audit.settings import AuditSettings
from fedcore.audit.wording import NOUNS
from fedcore.data.dataset import Dataset


@dataclass(frozen=True)
class Check:
    """A check and the rules it needs.

    Attributes:
      name: as in the findings.
      run: (sample table, **rules) -> findings.
      rules: names of its keyword arguments, keys of :func:`rules_of`.
    """

    name: str
    run: Callable[..., tuple[Finding, ...]]
    rules: tuple[str, ...] = ()


_SCHEMA = Check("schema", check_schema, ("shape", "dtype", "noun"))
_VALUES = Check("values", check_values, ("low", "high", "noun"))
_COMMON = (
    Check("labels", check_labels, ("kind", "labels")),
    Check("class-support", check_class_support, ("kind", "labels", "minimum")),
    Check("split-sizes", check_split_sizes, ("declared",)),
    Check("exact-duplicates", check_exact_duplicates, ("noun",)),
    Check("repeated-samples", check_repeated_samples, ("noun",)),
    Check("conflicting-labels", check_conflicting_labels, ("noun",)),
    Check("shared-by-owners", check_shared_by_owners, ("noun",)),
)
SUITES: Mapping[str, tuple[Check, ...]] = {
    "table": (_SCHEMA, _VALUES, *_COMMON),
    "image": (
        _SCHEMA,
        _VALUES,
        *_COMMON,
        Check("blank-images", check_blank_images),
        Check("near-duplicates", check_near_duplicates, ("threshold",)),
    ),
    "text": (
        _SCHEMA,
        Check("values", check_readable),
        *_COMMON,
        Check("empty-texts", check_empty_texts),
        Check("text-lengths", check_text_lengths, ("most_words",)),
        Check("near-duplicates", check_near_texts, ("similarity",)),
    ),
    "partition": (
        Check("one-client", check_one_client),
        Check("every-sample", check_every_sample),
        Check("shared-by-clients", check_shared_by_clients, ("noun",)),
        Check("alike-at-clients", check_alike_at_clients, ("similarity",)),
    ),
}


def suite_of(dataset: Dataset) -> str:
    """Name of the suite for a data set: ``image``, ``table`` or ``text``."""
    return dataset.kind


def rules_of(dataset: Dataset, settings: AuditSettings) -> dict[str, Any]:
    """The JSON values that the checks of this data set need, by name.

    Raises:
      ValueError: a range of values is set, and the inputs are texts.
    """
    near = settings.near_duplicates
    shape, dtype = _schema(dataset)
    low, high = settings.value_range or (None, None)
    if dataset.kind == "text" and settings.value_range is not None:
        raise ValueError(
            f"value_range={settings.value_range} is for numbers; the inputs of {dataset.name} are "
            "texts. Leave it out."
        )
    return {
        "shape": "x".join(map(str, shape)),
        "dtype": dtype,
        "low": low,
        "high": high,
        "noun": NOUNS[dataset.kind],
        "kind": dataset.task.kind.value,
        "labels": list(dataset.task.labels),
        "minimum": settings.min_class_support,
        "declared": dict(dataset.provenance.get("declared", {})),
        "threshold": near.threshold if near.enabled else None,
        "similarity": near.similarity if near.enabled else None,
        "most_words": settings.most_words,
    }


def _schema(dataset: Dataset) -> tuple[Sequence[int], str]:
    """Shape and dtype that every input should have."""
    features = dataset.features
    if dataset.kind == "image":
        return features["shape"], "uint8"
    if dataset.kind == "text":
        return (features["most_bytes"],), "uint8"
    names = features.get("names")
    shape = dataset.splits["train"].inputs.shape[1:] if names is None else (len(names),)
    return shape, "float32"
