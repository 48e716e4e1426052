"""The report of a chaos trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chaos.core import CoreTrial
from benchmarks.chaos.stack import STAGES, TARGETS, Kill, StackTrial, as_json
from benchmarks.report import write_report


def write_summary(
    folder: Path, core: Sequence[CoreTrial], stacked: Sequence[StackTrial], args: dict[str, Any]
) -> None:
    """``chaos.md`` and ``chaos.json``."""
    trials = [*core, *stacked]
    kills = [kill for trial in stacked for kill in trial.kills if kill.processes]
    inside = [point for trial in core for point in trial.kills]
    facts = {
        "runs": len(trials),
        "kills": len(kills) + len(inside),
        "kills_that_found_no_process": sum(len(t.kills) for t in stacked) - len(kills),
        "runs_with_the_undisturbed_final_digest": sum(t.digest == t.expected for t in trials),
        "runs_without_any_problem": sum(not t.problems for t in trials),
        "rounds_committed": sum(t.rounds[0] for t in trials),
        "rounds_scheduled": sum(t.rounds[1] for t in trials),
        "client_updates_finished": sum(len(t.trained) for t in trials),
        "client_updates_finished_twice": sum(
            count > 1 for trial in trials for count in trial.trained.values()
        ),
        "runs_with_other_than_one_version": sum(t.versions != 1 for t in stacked),
        "kills_that_needed_a_retry": sum(not kill.by_itself for kill in kills),
        "median_seconds_to_first_new_task": median(_seconds(kills)) if _seconds(kills) else None,
        "slowest_seconds_to_first_new_task": max(_seconds(kills), default=None),
    }
    body = [
        "A run is killed with SIGKILL again and again, always goes on, and ends with the final "
        "digest of the same run undisturbed. First inside fedcore: a process ends itself at a "
        "named point and another one takes over. Then on a stack: real processes of a deployment's "
        "run are killed when its events tell that a stage has begun; where the run then is Failed "
        "or Crashed, it gets one Retry.",
        _table(["what", "seen"], [[k.replace("_", " "), v] for k, v in facts.items()]),
        *(
            part
            for database in dict.fromkeys(trial.database for trial in stacked)
            for part in _grid(database, stacked)
        ),
        "Seconds to the first new task: from the restart (of the stack, or the Retry, or the kill "
        "where the run went on by itself) to the first client training, aggregation or later step "
        "of the run's new process; after a kill during the audit they hold the whole audit.",
        "## Kills inside fedcore",
        _table(
            ["point", "kills"],
            sorted(Counter(point.rsplit(", ", 1)[0] for point in inside).items()),
        ),
        *(f"**Seed {t.seed}: {'; '.join(t.problems)}**" for t in trials if t.problems),
    ]
    data = {
        "settings": args,
        "facts": facts,
        "stack": [as_json(trial) for trial in stacked],
        "core": [vars(trial) | {"problems": trial.problems} for trial in core],
    }
    write_report(folder, "chaos", "Chaos trial", [part for part in body if part], data)


def _seconds(kills: Sequence[Kill]) -> list[float]:
    return [kill.seconds for kill in kills if kill.seconds is not None]


def _grid(database: str, stacked: Sequence[StackTrial]) -> list[str]:
    kills = [k for t in stacked if t.database == database for k in t.kills if k.processes]
    counts = Counter((kill.stage, kill.target) for kill in kills)
    targets = list(dict.fromkeys([*TARGETS, *(kill.target for kill in kills)]))
    rows = [[stage, *(counts[stage, target] for target in targets)] for stage in STAGES]
    return [f"## Kills of processes, by stage: {database}", _table(["stage", *targets], rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
