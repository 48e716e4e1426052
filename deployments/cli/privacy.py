"""``fedloom privacy``: what data have told in private runs, by their owner's ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for


def privacy(
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
    from fedcore.privacy.ledger import Ledger, shown_name
    from fedcore.report.privacy import budget_table, course, plot_budgets
    from fedcore.sites.audit_entry import LogBroken
    from tasks import home

    path = (folder or home.privacy()) / "ledger.jsonl"
    if not path.is_file():
        fail(f"{path} is not there: no private run has released anything of these data.")
    budget, ledger = Budget(epsilon, delta), Ledger(path)
    groups = _group_budgets(group or [])
    with reasons_for(LogBroken, OSError):
        head = ledger.verify().head
        known = dict.fromkeys(one.data for one in ledger.charges())
        events = {data: ledger.events(data) for data in known}
        names = {data: shown_name(data) for data in events}
        budgets = {data: _budget_of(data, budget, groups) for data in events}
        standings = {
            names[data]: ledger.standing(data, budgets[data], each[-1])
            for data, each in events.items()
        }
        out.print(budget_table(standings), markup=False, highlight=False)
        out.print(
            f"{len({one.key for one in ledger.charges()})} releases; head {head}", soft_wrap=True
        )
        if export is not None:
            export.write_text(json.dumps(ledger.to_json(delta), indent=1) + "\n")
        if picture is not None:
            courses = {names[d]: course(each, budgets[d]) for d, each in events.items()}
            held = {names[data]: budgets[data] for data in events}
            picture.write_bytes(plot_budgets(courses, held))


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
