"""Markdown about a run: one table per round with a row per client, and the final report."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedcore.evaluation import HIGHER_IS_BETTER, summarise
from fedcore.privacy.spending import Spending

SCORES = ("loss", *(name for name in HIGHER_IS_BETTER if name != "loss"))
"""Columns of score tables, in this order, where they were measured."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table: floats with three decimals, None and NaN as a dash, pipes escaped.

    >>> print(markdown_table(["client", "loss"], [["a", 0.25], ["b", None]]))
    | client | loss |
    |---|---|
    | a | 0.250 |
    | b | - |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(line) + "|" if index == 1 else "| " + " | ".join(map(cell, line)) + " |"
        for index, line in enumerate(lines)
    )


def cell(value: Any) -> str:
    """One value as it stands in a table.

    >>> cell(0.12345), cell(float("nan")), cell("a|b")
    ('0.123', '-', 'a\\\\|b')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(str(value).split()).replace("|", "\\|")


def round_table(
    record: Mapping[str, Any], *, split: str | None = None, spent: Spending | None = None
) -> str:
    """One round as a table: a row per client with status, the reason of who is not done, samples,
    scores and update digest.

    Args:
      record: JSON of a round: ``round``, ``outcomes`` (client -> ``status``, ``num_examples``,
        ``update``, ``reason``) and ``metrics`` (as in :mod:`fedcore.report.history`).
      split: whose scores to show; by default the validation split, else the first measured.
      spent: what the run has told until this round; adds the epsilon of each client, or of each
        group of persons there.
    """
    metrics = record.get("metrics") or {}
    split = _shown_split(metrics, split)
    scores = (metrics.get(split) or {}).get("clients") or {}
    outcomes = record.get("outcomes") or {}
    names = [name for name in SCORES if any(each.get(name) is not None for each in scores.values())]
    hides = spent is not None and spent.unit == "client"
    why = ["reason"] * any(outcome.get("reason") for outcome in outcomes.values())
    rows = []
    for client in sorted({*outcomes, *scores}):
        outcome = outcomes.get(client) or {"status": "not asked"}
        rows.append(
            [
                client,
                _status(outcome),
                *(outcome.get(name) or "" for name in why),
                outcome.get("num_examples"),
                *(_score(scores.get(client), name) for name in names),
                *(_spent(spent, client) if spent and not hides else ()),
                short(outcome.get("update")),
            ]
        )
    privacy = ["epsilon spent", "left", "privacy"] if spent and not hides else []
    header = ["client", "status", *why, "samples", *names, *privacy, "update"]
    counts = Counter(outcome.get("status") for outcome in outcomes.values())
    others = [f", {counts[status]} {status}" for status in sorted(counts.keys() - {"done", None})]
    title = f"**Round {record['round']}**: {counts['done']} of {len(outcomes)} clients done"
    title += "".join(others) + (f"; scores on {split}." if split else ".")
    if spent is not None:
        title += f" Epsilon spent: {spent}."
    title += adapters_sentence(record.get("adapters") or {})
    return f"{title}\n\n{markdown_table(header, rows)}"


def adapters_sentence(told: Mapping[str, Any]) -> str:
    """How far the adapters' product is off after a round, and their ranks; empty without adapters.

    >>> adapters_sentence({"error": 0.25, "layers": {"q": {"error": 0.25, "rank": 8}}})
    ' Adapters: product off by 2.5e-01, most at q (2.5e-01); rank 8.'
    """
    layers = told.get("layers") or {}
    if not layers:
        return ""
    worst = max(sorted(layers), key=lambda name: layers[name]["error"] or 0.0)
    ranks = sorted({row["rank"] for row in layers.values()})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    off, most = _power(told.get("error")), _power(layers[worst]["error"])
    return f" Adapters: product off by {off}, most at {worst} ({most}); {rank}."


def _power(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _spent(spent: Spending, client: str) -> list[Any]:
    names = spent.of_client(client)
    if not names:
        return [0.0, spent.promised, "ok"]
    states = [spent.state(name) for name in names]
    return [
        _by_group(names, [spent.spent[name].value for name in names]),
        _by_group(names, [spent.left(name) for name in names]),
        states[0] if len(set(states)) == 1 else _by_group(names, states),
    ]


def _by_group(names: Sequence[str], values: Sequence[Any]) -> Any:
    """A client's one value, or that of each of its groups of persons by name."""
    if names[0].partition("/")[2] == "":
        return values[0]
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{name.partition('/')[2]} {cell(value)}" for name, value in pairs)


def _status(outcome: Mapping[str, Any]) -> str | None:
    late = outcome.get("staleness")
    return f"done, {late} late" if late else outcome.get("status")


def scores_table(measured: Mapping[str, Any], *, most_clients: int = 50) -> str:
    """Scores of one split: overall, then every client, the worst score of each column in bold.

    Args:
      measured: ``{"overall": {metric: value}, "clients": {client: {metric: value}}}``.
      most_clients: beyond it only the clients with the worst accuracy (else loss) are listed.
    """
    overall = measured.get("overall") or {}
    clients = measured.get("clients") or {}
    names = [
        name for name in SCORES if name in overall or any(name in each for each in clients.values())
    ]
    worst = {
        name: found[0] for name in names if len(clients) > 1 and (found := summarise(clients, name))
    }
    listed, left_out = _worst_first(clients, names, most_clients)
    rows: list[list[Any]] = [["**overall**", *(_score(overall, name) for name in names)]]
    for client in listed:
        rows.append(
            [
                client,
                *(
                    f"**{cell(_score(clients[client], name))}**"
                    if worst.get(name) == client
                    else _score(clients[client], name)
                    for name in names
                ),
            ]
        )
    table = markdown_table(["client", *names], rows)
    return table + f"\n\n{left_out} clients with better scores are not listed." * bool(left_out)


def rounds_table(records: Sequence[Mapping[str, Any]]) -> str:
    """The run at a glance: a row per round with clients done and overall scores of each split."""
    splits = dict.fromkeys(split for record in records for split in record.get("metrics") or {})
    columns = [
        (split, name)
        for split in splits
        for name in SCORES[:4]
        if any(_overall(record, split, name) is not None for record in records)
    ]
    adapters = ["adapter error"] * any(record.get("adapters") for record in records)
    rows = []
    for record in records:
        outcomes = record.get("outcomes") or {}
        done = sum(1 for outcome in outcomes.values() if outcome.get("status") == "done")
        rows.append(
            [
                record["round"],
                f"{done} of {len(outcomes)}",
                *(_overall(record, split, name) for split, name in columns),
                *(_power((record.get("adapters") or {}).get("error")) for _ in adapters),
                short(record.get("model")),
            ]
        )
    measured = (f"{split} {name}" for split, name in columns)
    header = ["round", "clients", *measured, *adapters, "model"]
    return markdown_table(header, rows)


def report_markdown(
    *,
    title: str,
    facts: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    audit: str = "",
    pictures: Mapping[str, bytes | str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The final report of a run, readable offline.

    Args:
      title: heading, e.g. the run's name.
      facts: label -> value, the table at the top.
      records: JSON of the rounds.
      audit: markdown of the data audit.
      pictures: caption -> PNG bytes (embedded) or a link.
      notes: sentences that a reader must not miss, under the facts.
    """
    parts = [f"# {title}", markdown_table(["", ""], facts.items())]
    parts += [f"> {note}" for note in notes]
    if records:
        last = records[-1]
        for split, measured in (last.get("metrics") or {}).items():
            heading = f"## Scores on {split} after round {last['round']}"
            parts += [heading, scores_table(measured)]
    for caption, picture in (pictures or {}).items():
        parts += [f"## {caption}", image(caption, picture)]
    if audit:
        parts += ["## Data audit", audit]
    if records:
        parts += ["## Rounds", rounds_table(records)]
    return "\n\n".join(parts) + "\n"


def image(caption: str, picture: bytes | str) -> str:
    """A markdown image: PNG bytes as a data URI, text as a link.

    >>> image("curves", "curves.png")
    '![curves](curves.png)'
    """
    if isinstance(picture, bytes):
        picture = "data:image/png;base64," + base64.b64encode(picture).decode()
    return f"![{caption}]({picture})"


def short(reference: Any) -> str | None:
    """The first twelve digits of a digest, or of the digest in a ``Ref`` written as JSON.

    >>> short({"digest": "0123456789abcdef", "size": 1, "kind": "delta"})
    '0123456789ab'
    """
    digest = reference.get("digest") if isinstance(reference, Mapping) else reference
    return None if digest is None else str(digest)[:12]


def _shown_split(metrics: Mapping[str, Any], split: str | None) -> str | None:
    if split is not None or not metrics:
        return split
    return "val" if "val" in metrics else next(iter(metrics))


def _score(scores: Mapping[str, Any] | None, name: str) -> float | None:
    value = (scores or {}).get(name)
    return None if value is None else float(value)


def _overall(record: Mapping[str, Any], split: str, name: str) -> float | None:
    measured = (record.get("metrics") or {}).get(split) or {}
    return _score(measured.get("overall"), name)


def _worst_first(
    clients: Mapping[str, Mapping[str, Any]], names: Sequence[str], most: int
) -> tuple[list[str], int]:
    """All clients by id, or the ``most`` worst ones by accuracy (else loss) when there are more."""
    if len(clients) <= most:
        return sorted(clients), 0
    key = "accuracy" if "accuracy" in names else names[0]
    sign = 1.0 if HIGHER_IS_BETTER[key] else -1.0

    def rank(client: str) -> tuple[float, str]:
        value = _score(clients[client], key)
        return (math.inf if value is None or math.isnan(value) else sign * value, client)

    return sorted(clients, key=rank)[:most], len(clients) - most
