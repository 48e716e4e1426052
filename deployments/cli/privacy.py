"""``fedloom privacy``: what data have told in private runs, by their owner's ledger."""

from __future__ import annotations

import json
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
    from fedcore.privacy.ledger import Ledger
    from fedcore.report.privacy import budget_table, course, plot_budgets
    from fedcore.sites.audit_entry import LogBroken
    from tasks import home

    path = (folder or home.privacy()) / "ledger.jsonl"
    if not path.is_file():
        fail(f"{path} is not there: no private run has released anything of these data.")
    budget, ledger = Budget(epsilon, delta), Ledger(path)
    with reasons_for(LogBroken, OSError):
        head = ledger.verify().head
        events = {}
        for one in ledger.charges():
            events.setdefault(one.data, []).append(one.event)
        names = {data: _short(data) for data in events}
        standings = {
            names[data]: ledger.standing(data, budget, costliest(each))
            for data, each in events.items()
        }
        out.print(budget_table(standings), markup=False, highlight=False)
        releases = len({one.key for one in ledger.charges()})
        out.print(f"{releases} releases; head {head}", soft_wrap=True)
        if export is not None:
            export.write_text(json.dumps(ledger.to_json(delta), indent=1) + "\n")
        if picture is not None:
            courses = {names[data]: course(each, budget) for data, each in events.items()}
            picture.write_bytes(plot_budgets(courses, dict.fromkeys(courses, budget)))


def _short(data: str) -> str:
    """A fingerprint, shortened; the group that it is of stays."""
    whole, slash, group = data.partition("/")
    return f"{whole[:12]}{slash}{group}"
