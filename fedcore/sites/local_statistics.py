"""Statistics of a site's own rows: no group in them is smaller than the site allows.

What a small group could be computed from stays. A column with few missing or few present values
stays as a whole, and with it all that were made of the same raw column; so does one of up to three
values of which one is rare, since count, mean and variance give three counts away. Labels are told
apart only where this holds for each of them, and then in the same bins as all rows. Neighbouring
bins are joined until each has nobody or enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedcore.audit.text_facts import text_facts
from fedcore.data.dataset import Dataset
from fedcore.data.encoding import TableEncoding
from fedcore.sites.codes import Code
from fedcore.sites.outgoing import Counts, Facts, Numbers, Words
from fedcore.sites.wanted import TEXT_SIZES, Wanted, column_names, label_names

TOLD, SMALL = "told", Code.GROUP_TOO_SMALL.value
KEPT, JOINED = "kept", "joined"
BY_LABEL = ".by_label"
FEW_VALUES = 3


def local_statistics(dataset: Dataset, rows: np.ndarray, wanted: Wanted, *, least: int) -> Facts:
    """Statistics of some rows of one split, as the fields of a site's answer.

    An image is one row, and its value in a channel the mean over its pixels; a text is one row, of
    how many words and bytes it has. ``code`` says of each column whether it is told. Flat lists
    over those that are: ``count``, ``missing``, ``mean``, ``variance`` (of the rows that are there,
    not of a population behind them), ``edges`` (which are kept), ``bins`` (counts, one more than
    kept edges). The same with ``.by_label``, label by label. Where no column is told the numbers
    are of a group of 0, which no gate lets pass.

    Args:
      rows: indices into the split.
      least: smallest group.

    Raises:
      ValueError: what is wanted is not of these inputs or labels.
    """
    names = column_names(dataset.features, dataset.splits["train"].inputs.shape[1:])
    if wanted.columns != names or wanted.labels not in ((), label_names(dataset.task)):
        raise ValueError(
            f"wanted are {len(wanted.columns)} columns and {len(wanted.labels)} labels that are "
            "not those of the data here; ask this site to describe its data again."
        )
    if wanted.split not in dataset.splits:
        raise ValueError(f"split={wanted.split!r}: there is none here; ask for train.")
    part = dataset.splits[wanted.split].take(rows)
    variables = list(_variables(dataset, len(names)))
    values = _values(dataset.kind, part.inputs, variables)
    everybody = [np.ones(len(part), dtype=bool)]
    labels = [part.targets == label for label in range(len(wanted.labels))]
    told, apart = [False] * len(names), [False] * len(names)
    for one in variables:
        is_told = _may_tell(values, one, everybody, least)
        is_apart = is_told and bool(labels) and _are_large(map(np.sum, labels), least)
        is_apart = is_apart and _may_tell(values, one, labels, least)
        for at in one.columns:
            told[at], apart[at] = is_told, is_apart
    kept = [
        _kept(_bins(values[:, at], labels if apart[at] else everybody, edges), least)
        for at, edges in enumerate(wanted.edges.get(name, ()) for name in names)
    ]
    fields = _fields("", values, everybody, told, wanted, kept)
    if labels:
        fields |= _fields(BY_LABEL, values, labels, apart, wanted, kept)
    return Facts(fields)


@dataclass(frozen=True)
class _Variable:
    """Columns that were made of one raw column, which may only be told together.

    Attributes:
      columns: all of them.
      hot: those of its categories.
      mark: the one that says where it is missing.
    """

    columns: tuple[int, ...]
    hot: tuple[int, ...] = ()
    mark: int | None = None


def _variables(dataset: Dataset, width: int) -> Iterable[_Variable]:
    if "encoding" not in dataset.features:
        return [_Variable((at,)) for at in range(width)]
    encoding = TableEncoding.from_json(dict(dataset.features["encoding"]))
    widths = [1] * len(encoding.numeric)
    widths += [len(values) - encoding.drop_first for _, values in encoding.categorical]
    starts = np.cumsum([0, *widths])
    found = []
    for at, (start, end) in enumerate(pairwise(starts.tolist())):
        own = tuple(range(start, end))
        mark = width - len(widths) + at if encoding.missing == "indicate" else None
        hot = own if at >= len(encoding.numeric) else ()
        found.append(_Variable(own if mark is None else (*own, mark), hot, mark))
    return found


def _values(kind: str, inputs: np.ndarray, variables: Sequence[_Variable]) -> np.ndarray:
    """(rows, columns) float64; NaN where a value is missing."""
    if kind == "image":
        return np.array(inputs, dtype=np.float64).mean(axis=(1, 2))
    if kind == "text":
        facts = text_facts(inputs)
        return np.stack([facts[name] for name in TEXT_SIZES], axis=1).astype(np.float64)
    values = np.array(inputs, dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    for one in variables:
        if one.mark is not None:
            own = [at for at in one.columns if at != one.mark]
            values[np.ix_(values[:, one.mark] == 1, own)] = np.nan
    return values


def _may_tell(values: np.ndarray, one: _Variable, groups: Sequence[np.ndarray], least: int) -> bool:
    """Whether a variable's columns give no small group away, in any of these groups of rows."""
    return all(_are_large(_small_groups(values[rows], one), least) for rows in groups)


def _small_groups(values: np.ndarray, one: _Variable) -> list[int]:
    """Sizes of the groups that could be told from the figures of a variable's columns."""
    sizes = []
    for at in one.columns:
        present = values[~np.isnan(values[:, at]), at]
        sizes += [len(present), len(values) - len(present)]
        each = np.unique(present, return_counts=True)[1]
        sizes += each.tolist() if len(each) <= FEW_VALUES else []
    if one.hot:  # those of the category that has no column
        sizes.append(int((values[:, one.hot].sum(axis=1) == 0).sum()))
    return sizes


def _are_large(sizes: Iterable[int], least: int) -> bool:
    return all(size == 0 or size >= least for size in sizes)


def _bins(column: np.ndarray, groups: Sequence[np.ndarray], edges: Sequence[float]) -> np.ndarray:
    """(groups, edges + 1) counts; a bin has its lower edge, and the last but one both."""
    if not edges:
        return np.zeros((len(groups), 1), dtype=np.int64)
    at = np.searchsorted(edges, column, side="right")
    at[column == edges[-1]] = len(edges) - 1
    there = ~np.isnan(column)
    return np.array([np.bincount(at[rows & there], minlength=len(edges) + 1) for rows in groups])


def _kept(bins: np.ndarray, least: int) -> list[bool]:
    """Which edges stay, so that every bin between them has nobody or enough of each group."""
    ends: list[int] = []  # bins that end at an edge that stays
    start = np.zeros(len(bins), dtype=np.int64)
    sums = np.cumsum(bins, axis=1)
    for end in range(bins.shape[1] - 1):
        if _are_large((sums[:, end] - start).tolist(), least):
            ends.append(end)
            start = sums[:, end]
    while ends and not _are_large((sums[:, -1] - sums[:, ends[-1]]).tolist(), least):
        ends.pop()
    return [at in ends for at in range(bins.shape[1] - 1)]


def _fields(
    suffix: str,
    values: np.ndarray,
    groups: Sequence[np.ndarray],
    told: Sequence[bool],
    wanted: Wanted,
    kept: Sequence[Sequence[bool]],
) -> dict[str, Counts | Numbers | Words]:
    codes = tuple(TOLD if is_told else SMALL for _ in groups for is_told in told)
    fields: dict[str, Counts | Numbers | Words] = {"code": Words(codes, frozenset({TOLD, SMALL}))}
    counts, missing, means, variances, bins = [], [], [], [], []
    edges: list[str] = []
    for rows in groups:
        for at, name in enumerate(wanted.columns):
            if not told[at]:
                continue
            column = values[rows, at]
            present = column[~np.isnan(column)]
            mean = float(present.mean()) if len(present) else 0.0
            counts.append(len(present))
            missing.append(len(column) - len(present))
            means.append(mean)
            variances.append(float(np.square(present - mean).mean()) if len(present) else 0.0)
            named = wanted.edges.get(name, ())
            edges += [KEPT if stays else JOINED for stays in kept[at]]
            if named:
                bins += _joined(_bins(values[:, at], [rows], named)[0], kept[at])
    group = min((count for count in counts if count), default=0)
    if any(told) or not suffix:
        fields |= {
            "count": Counts(tuple(counts)),
            "missing": Counts(tuple(missing)),
            "mean": Numbers(tuple(means), group),
            "variance": Numbers(tuple(variances), group),
            "edges": Words(tuple(edges), frozenset({KEPT, JOINED})),
            "bins": Counts(tuple(bins)),
        }
    return {f"{name}{suffix}": value for name, value in fields.items()}


def _joined(counts: np.ndarray, kept: Sequence[bool]) -> list[int]:
    starts = [0, *(at + 1 for at, stays in enumerate(kept) if stays)]
    return [int(count) for count in np.add.reduceat(counts, starts)]
