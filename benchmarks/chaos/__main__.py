"""``make chaos``: seeded kills over every process and every stage, and a report of the outcome.

python -m benchmarks.chaos --core 36 --stack 40 --postgres 8 --seed 0 --reports benchmarks/reports
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.chaos.core import CoreTrial, core_trial
from benchmarks.chaos.stack import STAGES, TARGETS, WITHOUT_CLIENTS, StackTrial, stack_trial
from benchmarks.chaos.summary import write_summary

KILLS_OF_A_CORE_RUN = 4
KILLS_OF_A_STACK_RUN = 4


def main() -> None:
    """Runs both trials and writes ``chaos.md`` and ``chaos.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--core", type=int, default=36, help="kills inside fedcore")
    words.add_argument("--stack", type=int, default=40, help="kills of a stack's processes")
    words.add_argument("--postgres", type=int, default=8, help="kills of a stack on PostgreSQL")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    servers = ("prefect", "postgres", "everything")
    plans = stack_plans(args.postgres, args.seed, servers)
    stacked = stack_trials(plans, args.seed, "postgres")
    stacked = stack_trials(stack_plans(args.stack, args.seed), args.seed + len(plans)) + stacked
    core = core_trials(args.core, args.seed)
    write_summary(args.reports, core, stacked, vars(args) | {"reports": ""})


def core_trials(kills: int, seed: int) -> list[CoreTrial]:
    """Runs under kills inside fedcore, until so many kills hit."""
    trials: list[CoreTrial] = []
    while (left := kills - sum(len(trial.kills) for trial in trials)) > 0:
        with tempfile.TemporaryDirectory() as folder:
            number = min(KILLS_OF_A_CORE_RUN, left)
            trials.append(core_trial(seed + len(trials), number, Path(folder)))
        tell(f"core run {len(trials)}", trials[-1].kills, trials[-1].problems)
    return trials


def stack_trials(
    plans: list[list[tuple[str, str]]], seed: int, database: str = "sqlite"
) -> list[StackTrial]:
    """Runs of a deployment on a stack of its own, each under the kills of a plan."""
    from deployments.registration import register
    from deployments.stack.lifecycle import bring_down, bring_up
    from deployments.stack.options import Options

    trials: list[StackTrial] = []
    if not plans:
        return trials
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o711)  # PostgreSQL never runs as root: another user has to pass through
        try:
            register(bring_up(home, options=Options(database=database), tell=_quiet))
            for number, plan in enumerate(plans):
                # Ports stay, processes change: a power cut starts all of them anew.
                trials.append(
                    trial := stack_trial(bring_up(home, tell=_quiet), seed + number, plan)
                )
                told = [f"{kill.target} at {kill.stage}" for kill in trial.kills if kill.processes]
                tell(f"{database} run {number + 1}", told, trial.problems)
        finally:
            bring_down(home)
    return trials


def stack_plans(
    kills: int, seed: int, targets: tuple[str, ...] = TARGETS
) -> list[list[tuple[str, str]]]:
    """Every stage with every target, as far as ``kills`` goes, in runs of some kills each."""
    draw = random.Random(seed)
    pairs = [
        (stage, target)
        for stage in STAGES
        for target in targets
        if not (stage in WITHOUT_CLIENTS and target == "client")
    ]
    draw.shuffle(pairs)
    order = list(STAGES)
    plans: list[list[tuple[str, str]]] = []
    for pair in pairs[:kills]:
        for plan in plans:
            if len(plan) < KILLS_OF_A_STACK_RUN and pair[0] not in {stage for stage, _ in plan}:
                plan.append(pair)
                break
        else:
            plans.append([pair])
    return [sorted(plan, key=lambda pair: order.index(pair[0])) for plan in plans]


def tell(what: str, kills: list[Any], problems: list[str]) -> None:
    """One line of progress."""
    print(
        f"{what}: {len(kills)} kills ({', '.join(map(str, kills))}): {problems or 'well'}",
        flush=True,
    )


def _quiet(line: str) -> None:
    pass


if __name__ == "__main__":
    main()
