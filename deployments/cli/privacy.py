"""``fedloom privacy``: what data have told, by their owner's ledger; which batch; at what cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli import trade_off
from deployments.cli.command import Command, GroupWithDefault
from deployments.cli.config import Overrides
from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.config import RunConfig

app = typer.Typer(
    cls=GroupWithDefault,
    help="What data have told in private runs, and which batch to train with. Without a command: "
    "the ledger.",
)


@app.command(cls=Command)
def ledger(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder with ledger.jsonl: a site's, or (by default) this home's."),
    ] = None,
    epsilon: Annotated[
        float, typer.Option("--epsilon", min=1e-6, help="Budget to hold it against.")
    ] = 8.0,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help="NAME=EPSILON: budget of a group of persons (repeat)."),
    ] = None,
    delta: Annotated[
        float, typer.Option("--delta", min=1e-15, max=0.5, help="Chance that the promise fails.")
    ] = 1e-5,
    export: Annotated[
        Path | None, typer.Option("--json", help="File for all charges and their digest.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="PNG file: the budget by release.")
    ] = None,
) -> None:
    """What was spent of each data set's budget, and what is left; the ledger is verified first.

    Example: `fedloom privacy /srv/north --epsilon 10 --json ledger.json`
    """
    from fedcore.privacy.budget import Budget
    from fedcore.privacy.disjoint import costliest
    from fedcore.privacy.ledger import Ledger, shown_name
    from fedcore.report.privacy import budget_table, course, plot_budgets
    from fedcore.sites.audit_entry import LogBroken
    from tasks import home

    path = (folder or home.privacy()) / "ledger.jsonl"
    if not path.is_file():
        fail(f"{path} is not there: no private run has released anything of these data.")
    budget, kept = Budget(epsilon, delta), Ledger(path)
    groups = _group_budgets(group or [])
    with reasons_for(LogBroken, OSError):
        head = kept.verify().head
        known = dict.fromkeys(one.data for one in kept.charges())
        events = {data: kept.events(data) for data in known}
        names = {data: shown_name(data) for data in events}
        budgets = {data: _budget_of(data, budget, groups) for data in events}
        standings = {
            names[data]: kept.standing(data, budgets[data], costliest(each))
            for data, each in events.items()
        }
        out.print(budget_table(standings), markup=False, highlight=False)
        out.print(
            f"{len({one.key for one in kept.charges()})} releases; head {head}", soft_wrap=True
        )
        if export is not None:
            export.write_text(json.dumps(kept.to_json(delta), indent=1) + "\n")
        if picture is not None:
            courses = {names[d]: course(each, budgets[d]) for d, each in events.items()}
            held = {names[data]: budgets[data] for data in events}
            picture.write_bytes(plot_budgets(courses, held))


@app.command(cls=Command)
def suggest(
    file: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    override: Overrides = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", min=1e-6, help="What the run may tell; default: the file's."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", min=1e-15, max=0.5, help="Chance that it tells more."),
    ] = None,
    records: Annotated[
        int | None,
        typer.Option(
            "--records", min=1, help="Records of a client; without it the data are divided."
        ),
    ] = None,
    noise_multiplier: Annotated[
        float | None,
        typer.Option("--noise-multiplier", min=1e-4, help="What this noise can promise at best."),
    ] = None,
    compute: Annotated[
        float, typer.Option("--compute", min=1, help="Work that is allowed, as a multiple of now.")
    ] = 4.0,
) -> None:
    """The noise that each batch size needs for a promise, and the batch size to take.

    Examples:

        fedloom privacy suggest my.yaml

        fedloom privacy suggest my.yaml --epsilon 3 --records 6000

        fedloom privacy suggest my.yaml --noise-multiplier 1.1
    """
    from fedcore.config import ConfigError, load_config, parse_overrides
    from fedcore.privacy.suggest_for import overrides_of, sampling_of, suggest_for
    from fedcore.privacy.suggestion import smallest_epsilon
    from fedcore.report.suggestion import as_options, suggestion_notes, suggestion_table

    with reasons_for(ConfigError, ValueError, OSError):
        config = load_config(file, parse_overrides(override or []))
        sizes = [records] if records and config.privacy.kind != "client" else _sizes(config)
        if noise_multiplier is not None:
            delta = delta or getattr(config.privacy, "delta", None) or 1e-5
            now = sampling_of(config, sizes)
            least = smallest_epsilon(noise_multiplier, delta, now.population, now.batch, now.steps)
            out.print(
                f"Noise multiplier {noise_multiplier:g} with {now.batch} of {now.population} "
                f"{now.of} in each of {now.steps} steps: epsilon {least.value:.4g} at best (delta "
                f"{delta:g}; RDP {least.rdp:.4g}, PRV {least.prv:.4g}).",
                soft_wrap=True,
            )
            epsilon = epsilon or least.value
        sampling, found = suggest_for(config, sizes, epsilon=epsilon, delta=delta, compute=compute)
    print(suggestion_table(found, sampling.of))
    for note in suggestion_notes(found, sampling.of):
        print(f"\n{note}")
    changes = overrides_of(config, found, found.recommended)
    run = f"fedloom run {file} {as_options(changes)}".rstrip()
    print(f"\n{run}" if changes else f"\n{file} has this already.")


app.command("trade-off", cls=Command)(trade_off.trade_off)


def _sizes(config: RunConfig) -> list[int]:
    """Training records of each client, before the audit drops any."""
    from fedcore.partition.make import make_partition
    from tasks import home

    dataset = config.data.load(home.data_folder())
    partition = make_partition(dataset, config.partition, config.seed)
    return [len(rows) for rows in partition.indices["train"].values()]


def _budget_of(data, budget, groups):
    """The budget itself, or that of the group of persons that the data are of."""
    group = data.partition("/")[2]
    return replace(budget, epsilon=groups[group]) if group in groups else budget


def _group_budgets(pairs: list[str]) -> dict[str, float]:
    """``["over-60=4"]`` as ``{"over-60": 4.0}``."""
    found = {}
    for pair in pairs:
        group, _, epsilon = pair.partition("=")
        try:
            found[group] = float(epsilon)
        except ValueError:
            fail(f"--group {pair!r} must read NAME=EPSILON, e.g. over-60=4.")
    return found
