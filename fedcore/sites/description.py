"""What a site says of its data before any training: counts, names and findings, never a row."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from fedcore.audit.audit import run_checks
from fedcore.audit.checks.catalogue import rules_of, suite_of
from fedcore.audit.checks.labels import label_counts
from fedcore.audit.finding import Severity
from fedcore.audit.settings import CheckName
from fedcore.audit.wording import NOUNS
from fedcore.data.dataset import Dataset
from fedcore.digests import canonical_json, digest_arrays, digest_json
from fedcore.moments import Moments, moments
from fedcore.sites.inquiry import Inquiry, Scaling, scaling_json
from fedcore.sites.local_rows import local_rows, sample_hashes
from fedcore.sites.refusal import Reason, Refusal
from fedcore.task import Task, TaskKind

# One input at most: a message must not decide how large a model the coordinator builds.
MOST_VALUES = 50_000_000
MOST_LABELS = 10_000
# A site alone cannot say whether a label is rare: the coordinator adds up (see ``sites.shared``).
OF_ALL_SITES = "class-support"

SplitName = Annotated[str, StringConstraints(pattern=r"^(train|val|test)$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Size = Annotated[int, Field(ge=1, le=2**53)]
DataName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SampleHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True)
class Found:
    """A finding of a site's own audit: its code and count, without places or values."""

    check: CheckName
    severity: Severity
    splits: tuple[SplitName, ...]
    count: Count


@dataclass(frozen=True)
class Description:
    """One site's data, as the coordinator may know them.

    Attributes:
      client: id of the site.
      dataset: short name of its data set.
      task: what its targets mean.
      features: JSON description of one input (:class:`fedcore.data.dataset.Dataset`).
      input_shape: one input before preprocessing.
      sizes: split -> samples that take part.
      dropped: split -> samples that the audit leaves out.
      labels: split -> samples of each label, before any was dropped (regression: empty).
      train_labels: training samples of each label that take part (regression: empty).
      names: split -> what the site calls its samples that take part: HMAC-SHA256 by its secret,
        over these and its training samples (which decide how it scales by its own rows).
      samples: split -> sorted hashes of the samples that take part, salted for this run.
      findings: of the site's own audit.
      moments: of the training rows that take part, where all sites are scaled alike; else None.
    """

    client: Annotated[str, StringConstraints(max_length=64)]
    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    task: Task
    features: Mapping[str, Any]
    input_shape: Annotated[tuple[Size, ...], Field(min_length=1, max_length=4)]
    sizes: Mapping[SplitName, Size]
    dropped: Mapping[SplitName, Size]
    labels: Mapping[SplitName, tuple[Count, ...]]
    train_labels: tuple[Count, ...]
    names: Mapping[SplitName, DataName]
    samples: Mapping[SplitName, tuple[SampleHash, ...]]
    findings: Annotated[tuple[Found, ...], Field(max_length=100)]
    moments: Moments | None

    @property
    def kind(self) -> str:
        """What one input is: ``image``, ``table`` (a row of one) or ``text``."""
        return str(self.features["kind"])

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`read_description` takes back."""
        value: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return value


_ADAPTER: TypeAdapter[Description] = TypeAdapter(Description)


def describe(dataset: Dataset, client: str, inquiry: Inquiry, *, secret: bytes) -> Description:
    """A site's answer to an inquiry: its own audit, its remedy, and what is left.

    Args:
      client: id of the site in the run.
      secret: of the site; names its data, so that nobody can test a guess of them.

    Raises:
      ValueError: as :func:`fedcore.sites.local_rows.local_rows`.
    """
    rows = local_rows(dataset, client, inquiry, finds_alike=True)
    table, indices = rows.table, rows.partition.indices
    task, kept = dataset.task, {split: held[client] for split, held in indices.items()}
    rules = rules_of(dataset, inquiry.audit)
    found = [
        Found(one.check, one.severity, one.splits, one.count)  # type: ignore[arg-type]
        for one in run_checks(table, suite_of(dataset), rules)
        if one.check != OF_ALL_SITES
    ]
    parts = {split: table[table["split"] == split] for split in dataset.splits}
    taking = {split: parts[split].iloc[at] for split, at in kept.items()}

    def counts(part: Any) -> tuple[int, ...]:
        if task.kind is TaskKind.REGRESSION:
            return ()
        counted = label_counts(part, kind=task.kind.value, labels=task.labels)
        return tuple(int(count) for count in counted)

    train = dataset.splits["train"].inputs[kept["train"]]
    is_scaled_alike = inquiry.standardise == "federation" and dataset.kind == "table"
    return Description(
        client=client,
        dataset=dataset.name,
        task=task,
        features=dataset.features,
        input_shape=tuple(train.shape[1:]),
        sizes={split: len(at) for split, at in kept.items()},
        dropped={
            split: len(part) - len(kept.get(split, ()))
            for split, part in dataset.splits.items()
            if len(part) > len(kept.get(split, ()))
        },
        labels={split: counts(part) for split, part in parts.items()},
        train_labels=counts(taking["train"]),
        names=data_names(dataset, kept, secret),
        samples={
            split: tuple(sorted(sample_hashes(part, inquiry.salt)))
            for split, part in taking.items()
        },
        findings=tuple(found),
        # Values that are not finite are a finding, which stops the run.
        moments=moments(train) if is_scaled_alike and np.isfinite(train).all() else None,
    )


def data_names(dataset: Dataset, kept: Mapping[str, np.ndarray], secret: bytes) -> dict[str, str]:
    """Split -> what a site calls its samples at ``kept`` (split -> indices), by its secret."""
    digests = {}
    for split, at in kept.items():
        part = dataset.splits[split].take(at)
        digests[split] = digest_arrays({"inputs": part.inputs, "targets": part.targets})
    return {
        split: hmac.new(
            secret, canonical_json(["data", digests["train"], digest]).encode(), hashlib.sha256
        ).hexdigest()
        for split, digest in digests.items()
    }


def shard_name(name: str, scaling: Scaling) -> str:
    """What a shard is called in a plan: the site's name of the samples, and how they are scaled.

    Without the scaling two runs could ask for the same work by one key and mean different inputs.
    """
    return digest_json([name, scaling_json(scaling)])


def read_description(value: Any, client: str) -> Description:
    """The description in what a site sent, every field of its type, complete and consistent.

    Args:
      client: who signed it.

    Raises:
      Refusal: ``schema``, with the field; the content is never told.
    """
    try:
        text = canonical_json(value)
        found = _ADAPTER.validate_json(text, strict=True)
        # What was left over, or understood otherwise than it was written.
        _require(canonical_json(found.to_json()) == text, "description")
    except ValidationError as error:
        field = error.errors(include_input=False, include_url=False)[0]["loc"][:1]
        is_ours = bool(field) and field[0] in Description.__dataclass_fields__
        raise Refusal(Reason.SCHEMA, str(field[0]) if is_ours else "description") from None
    except Refusal:
        raise
    except (TypeError, ValueError, RecursionError):
        raise Refusal(Reason.SCHEMA, "description") from None
    _require(found.client == client, "client")
    _check_inputs(found)
    _check_counts(found)
    return found


def _check_inputs(found: Description) -> None:
    _require(prod(found.input_shape) <= MOST_VALUES, "input_shape")
    features = found.features
    kind, shape = features.get("kind"), [*found.input_shape]
    _require(isinstance(kind, str) and kind in NOUNS, "features")
    if kind == "image":
        _require(len(shape) == 3 and features.get("shape") == shape, "features")
    elif kind == "text":
        most = features.get("most_bytes")
        _require(type(most) is int and [most] == shape, "features")
    else:
        names = features.get("names", [None] * shape[0])
        _require(len(shape) == 1 and isinstance(names, list), "features")
        _require(len(names) == shape[0], "features")
    _require(len(found.task.labels) <= MOST_LABELS, "task")


def _check_counts(found: Description) -> None:
    _require("train" in found.sizes, "sizes")
    _require(found.names.keys() == found.sizes.keys(), "names")
    _require(found.samples.keys() == found.sizes.keys(), "samples")
    for split, hashes in found.samples.items():
        _require(len(hashes) == found.sizes[split], "samples")
        _require(list(hashes) == sorted(hashes), "samples")
    _require("test" not in found.dropped, "dropped")
    total = {
        split: found.sizes.get(split, 0) + found.dropped.get(split, 0)
        for split in (*found.sizes, *found.dropped)
    }
    _require(found.labels.keys() == total.keys(), "labels")
    width = 0 if found.task.kind is TaskKind.REGRESSION else len(found.task.labels)
    for split, counts in (*found.labels.items(), ("train", found.train_labels)):
        field, most = "labels", total[split]
        if counts is found.train_labels:
            field, most = "train_labels", found.sizes["train"]
        _require(len(counts) == width and max(counts, default=0) <= most, field)
        is_one_of = found.task.kind not in (TaskKind.REGRESSION, TaskKind.MULTILABEL)
        _require(not is_one_of or sum(counts) <= most, field)
    if found.moments is not None:
        _require(found.moments.count == found.sizes["train"], "moments")
        _require(found.input_shape == (len(found.moments.mean),), "moments")


def _require(holds: bool, field: str) -> None:
    if not holds:
        raise Refusal(Reason.SCHEMA, field)
