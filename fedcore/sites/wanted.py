"""Which statistics the coordinator wants of each site's table, and of which rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from fedcore.digests import canonical_json
from fedcore.sites.inquiry import Inquiry, read_inquiry
from fedcore.sites.refusal import Reason, Refusal
from fedcore.task import Task, TaskKind

MOST_COLUMNS = 10_000
MOST_LABELS = 100
MOST_EDGES = 64
# What is told of a text in place of columns.
TEXT_SIZES = ("words", "bytes")
# Labels that part the rows: of several per row, a small group could be told from the others.
PARTS_ROWS = (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.ORDINAL)

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Edges = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...],
    Field(min_length=1, max_length=MOST_EDGES),
]


@dataclass(frozen=True)
class Wanted:
    """Of each column: count, missing, mean, variance, and counts in bins.

    Attributes:
      columns: names of all columns of the inputs, in order, as :func:`column_names` gives them.
      labels: names of all labels, where each label's rows are wanted apart too; empty: not.
      edges: column -> ascending edges of its bins, of which there is one more than edges: also
        below the first and above the last. A column without edges has no bins.
      split: whose rows.

    Raises:
      ValueError: a column is named twice or is unknown, or edges do not ascend.
    """

    columns: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_COLUMNS)]
    labels: Annotated[tuple[Name, ...], Field(max_length=MOST_LABELS)] = ()
    edges: Mapping[Name, Edges] = field(default_factory=dict)
    split: Literal["train", "val", "test"] = "train"

    def __post_init__(self) -> None:
        for name, values in (("columns", self.columns), ("labels", self.labels)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values!r} repeat a name; each stands once.")
        unknown = sorted({*self.edges} - {*self.columns})
        if unknown:
            raise ValueError(f"edges of {unknown}: there are only the columns {self.columns}.")
        edges = {name: tuple(map(float, values)) for name, values in self.edges.items()}
        for name, own in edges.items():
            ascends = all(one < other for one, other in pairwise(own))
            if not own or not ascends or not all(map(math.isfinite, own)):
                raise ValueError(f"edges of {name!r} are {own}: finite numbers that ascend.")
        object.__setattr__(self, "edges", edges)


@dataclass(frozen=True)
class StatisticsInquiry:
    """What one site is asked.

    Attributes:
      inquiry: which rows take part, as the site described them.
      wanted: of these rows.
    """

    inquiry: Inquiry
    wanted: Wanted

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`read_statistics_inquiry` takes back."""
        return {"inquiry": self.inquiry.to_json(), "wanted": _json(self.wanted)}


def column_names(features: Mapping[str, Any], input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """What the columns of a table are called, the channels of an image, the sizes of a text.

    Args:
      features, input_shape: as a site describes its inputs.
    """
    if features["kind"] == "text":
        return TEXT_SIZES
    what = "channel" if features["kind"] == "image" else "column"
    names = features.get("names") or [f"{what} {at}" for at in range(input_shape[-1])]
    return tuple(map(str, names))


def label_names(task: Task) -> tuple[str, ...]:
    """The labels by which rows can be told apart; none where a row may have several, or numbers."""
    return task.labels if task.kind in PARTS_ROWS else ()


def read_statistics_inquiry(value: Any) -> StatisticsInquiry:
    """What the coordinator sent, every field of its type and within its bounds.

    Raises:
      Refusal: ``schema``, with the field.
    """
    if not isinstance(value, dict) or set(value) != {"inquiry", "wanted"}:
        raise Refusal(Reason.SCHEMA, "statistics")
    try:
        text = canonical_json(value["wanted"])
        wanted = _ADAPTER.validate_json(text, strict=True)
        if canonical_json(_json(wanted)) != text:
            raise Refusal(Reason.SCHEMA, "wanted")
    except Refusal:
        raise
    except (ValidationError, ValueError, TypeError, RecursionError):
        raise Refusal(Reason.SCHEMA, "wanted") from None
    return StatisticsInquiry(read_inquiry(value["inquiry"]), wanted)


_ADAPTER: TypeAdapter[Wanted] = TypeAdapter(Wanted)


def _json(wanted: Wanted) -> dict[str, Any]:
    lists = {name: list(getattr(wanted, name)) for name in ("columns", "labels")}
    edges = {name: list(values) for name, values in wanted.edges.items()}
    return {**asdict(wanted), **lists, "edges": edges}
