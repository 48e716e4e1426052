"""How a run's progress looks in a terminal, live and in logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedcore.report.words import duration
from fedcore.snapshot import RoundLine, Snapshot

# What a line has room for, most telling first.
SHOWN_METRICS = ("loss", "accuracy", "auc", "balanced_accuracy", "r2", "perplexity")
SHOWN_ROUNDS = 12


def narrate(before: Snapshot, after: Snapshot, seconds: float) -> Iterator[str]:
    """What one event changed, as lines for a log: a new stage, a finished round."""
    if after.stage != before.stage:
        yield f"{after.stage}  {seconds:.0f} s"
    if len(after.lines) > len(before.lines):
        yield plain_line(after.lines[-1], after.rounds)


def render(
    progress: Snapshot, seconds: float, *, state: str = "", remaining: float | None = None
) -> RenderableType:
    """The live display: one line for now, a bar, a table of the last rounds."""
    head = Text.assemble((progress.stage, "bold"), f"  {seconds:.0f} s")
    if state and state != "Running":
        head.append(f"  ({state.lower()})", style="yellow")
    if progress.rounds:
        head.append(f"  round {progress.round} of {progress.rounds}")
        if progress.stage == "rounds" and progress.trained:
            head.append(f", {progress.trained} clients trained")
    if remaining is not None:
        head.append(f", about {duration(remaining)} left")
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
