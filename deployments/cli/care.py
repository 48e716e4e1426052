"""``fedloom preflight``, ``backup`` and ``restore``: care of a running system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.config import Overrides
from deployments.cli.screen import fail, out, reasons_for, steps
from deployments.stack.stack import StackError, stack_home


def preflight(
    file: Annotated[Path, typer.Argument(help="YAML file of a run.")], override: Overrides = None
) -> None:
    """Whether a run fits this machine: disk, memory, and its time from one timed batch.

    Loads and divides the data as the run would, and trains nothing that is kept. The exit code is
    1 when the run would be refused.

    Example: `fedloom preflight my.yaml -o rounds.count=100`
    """
    from fedcore.audit.audit import audit
    from fedcore.config import ConfigError, load_config, parse_overrides
    from fedcore.partition.make import make_partition
    from fedcore.plan import prepare
    from fedcore.preflight import check, look_around
    from fedcore.timing import time_batch
    from tasks import home

    with reasons_for(ConfigError):
        config = load_config(file, parse_overrides(override or []))
    with reasons_for(ValueError, RuntimeError, LookupError, OSError):
        dataset = config.data.load(home.data_folder())
        exclusions = audit(dataset, config.audit).exclusions
        partition = make_partition(dataset, config.partition, config.seed, exclusions)
        store = home.store()
        plan = prepare(config, dataset, partition, store)
        found = check(plan, look_around(home.home()), time_batch(plan, store))
    out.print(f"{found.rounds} rounds, {len(plan.federation.ids)} clients")
    for name, value in found.facts().items():
        out.print(f"{name:<7} {value}")
    for warning in found.warnings:
        out.print(f"[yellow]warning[/yellow] {warning}", soft_wrap=True)
    if found.problems:
        fail(" ".join(found.problems))


def backup(
    file: Annotated[Path, typer.Argument(help="File to write, `.tar.gz`.")],
) -> None:
    """Copy this home into one file while its stack runs: runs, models, registry, events, logs.

    Passwords and caches are left out. A run that is under way goes on from the copy.

    Example: `fedloom backup /backup/fedloom-$(date +%F).tar.gz`
    """
    import os

    from deployments.care.backup import back_up
    from deployments.stack.stack import read_stack
    from fedcore.report.words import size

    home = stack_home()
    with reasons_for(StackError), steps("Copying") as tell:
        made = back_up(home, file.absolute(), read_stack(home), tell=tell)
    total = size(sum(entry.size for entry in made.files))
    out.print(f"{file}: {len(made.files)} files, {total}, of {home}", soft_wrap=True)
    if elsewhere := os.environ.get("FEDLOOM_STORE"):
        out.print(
            f"The store is not in it: FEDLOOM_STORE={elsewhere} needs a backup of its own, taken "
            "after this one.",
            soft_wrap=True,
        )


def restore(
    file: Annotated[Path, typer.Argument(help="What `fedloom backup` wrote.")],
    home: Annotated[
        Path | None, typer.Option(help="New or empty folder; by default `$FEDLOOM_HOME`.")
    ] = None,
) -> None:
    """Make a home from a backup. Every file is checked; a home that holds anything is left alone.

    Then `fedloom stack up` there. A run that was under way is shown as it was: Retry resumes it.

    Example: `fedloom restore /backup/fedloom-2026-11-23.tar.gz --home /data/fedloom`
    """
    import time

    from deployments.care.restore import restore as fill

    target = stack_home(home)
    with reasons_for(StackError), steps("Restoring") as tell:
        manifest = fill(file, target, tell=tell)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest.made))
    out.print(f"{target}: {len(manifest.files)} files of {made}", soft_wrap=True)
    out.print(f"Next: FEDLOOM_HOME={target} fedloom stack up", soft_wrap=True)
