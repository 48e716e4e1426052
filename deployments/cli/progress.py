"""Where a run stands, told from its event file: a value folded over events, and how it looks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

# What a line has room for, most telling first.
SHOWN_METRICS = ("loss", "accuracy", "auc", "balanced_accuracy", "r2")
SHOWN_ROUNDS = 12


@dataclass(frozen=True)
class RoundLine:
    """A finished round."""

    round: int
    metrics: Mapping[str, float]
    seconds: float
    failed: tuple[str, ...] = ()
    trained: int = 0

    @property
    def remark(self) -> str:
        """What was unusual: clients that failed, or a draw of nobody."""
        if self.failed:
            return f"failed: {'; '.join(self.failed)}"
        # Everybody who is asked trains, answers from the memo, or fails.
        return "" if self.trained else "nobody drawn"


@dataclass(frozen=True)
class Progress:
    """What the events so far say.

    Attributes:
      stage: what the run does now.
      round: the round under way, from 1; 0 before the first.
      rounds: how many there will be; 0 while unknown.
      trained: clients done in the round under way.
      failed: clients of that round that failed, with the reason.
      lines: finished rounds, oldest first.
    """

    stage: str = "waiting"
    round: int = 0
    rounds: int = 0
    trained: int = 0
    failed: tuple[str, ...] = ()
    lines: tuple[RoundLine, ...] = field(default=())


def read_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The events that were appended since ``offset``, and the offset after them.

    A line that is still being written is left for the next call.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            new = file.read()
    except FileNotFoundError:
        return [], offset
    whole = new[: new.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def advance(progress: Progress, events: Iterable[Mapping[str, Any]]) -> Progress:
    """The progress after some more events; unknown ones change nothing."""
    for event in events:
        progress = _after(progress, event)
    return progress


def _after(now: Progress, event: Mapping[str, Any]) -> Progress:
    number, rounds = event.get("round", 0), event.get("rounds", 0) or now.rounds
    match event.get("type"):
        case "stage":
            return replace(now, stage=event["message"], rounds=rounds)
        case "round_started":
            return replace(now, round=number, rounds=rounds, trained=0, failed=())
        case "client_train_completed":
            return replace(now, trained=now.trained + 1)
        case "node_error":
            return replace(now, failed=(*now.failed, f"{event['client']}: {event['message']}"))
        case "round_completed":
            line = RoundLine(number, event["metrics"], event["seconds"], now.failed, now.trained)
            # A retried run tells its rounds again.
            kept = tuple(each for each in now.lines if each.round < number)
            return replace(now, round=number, rounds=rounds, lines=(*kept, line))
    return now


def narrate(before: Progress, after: Progress, seconds: float) -> Iterator[str]:
    """What one event changed, as lines for a log: a new stage, a finished round."""
    if after.stage != before.stage:
        yield f"{after.stage}  {seconds:.0f} s"
    if len(after.lines) > len(before.lines):
        yield plain_line(after.lines[-1], after.rounds)


def render(progress: Progress, seconds: float, *, state: str = "") -> RenderableType:
    """The live display: one line for now, a bar, a table of the last rounds."""
    head = Text.assemble((progress.stage, "bold"), f"  {seconds:.0f} s")
    if state and state != "Running":
        head.append(f"  ({state.lower()})", style="yellow")
    if progress.rounds:
        head.append(f"  round {progress.round} of {progress.rounds}")
        if progress.stage == "rounds" and progress.trained:
            head.append(f", {progress.trained} clients trained")
    parts: list[RenderableType] = [head]
    if progress.rounds:
        parts.append(ProgressBar(total=progress.rounds, completed=len(progress.lines), width=60))
    if progress.lines:
        parts.append(rounds_table(progress.lines[-SHOWN_ROUNDS:]))
    return Group(*parts)


def rounds_table(lines: Iterable[RoundLine]) -> Table:
    """One row per finished round."""
    lines = list(lines)
    names = [name for name in SHOWN_METRICS if any(name in line.metrics for line in lines)]
    has_remarks = any(line.remark for line in lines)
    titles = [name.replace("balanced_", "balanced ") for name in names]
    table = Table("round", *titles, "seconds", *[""] * has_remarks, box=None)
    for line in lines:
        values = [f"{line.metrics[n]:.4f}" if n in line.metrics else "" for n in names]
        remark = [Text(line.remark, style="red" if line.failed else "")] * has_remarks
        table.add_row(str(line.round), *values, f"{line.seconds:.1f}", *remark)
    return table


def plain_line(line: RoundLine, rounds: int) -> str:
    """A finished round in one line, for logs."""
    told = ", ".join(
        f"{name} {line.metrics[name]:.4f}" for name in SHOWN_METRICS if name in line.metrics
    )
    remark = f"; {line.remark}" if line.remark else ""
    return (
        f"round {line.round} of {rounds}: {told or 'not evaluated'}, {line.seconds:.1f} s{remark}"
    )
