"""``fedloom alerts``: what the shipped automations told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from deployments.alerts import read_alerts
from deployments.cli.screen import out
from deployments.stack.stack import stack_home


def alerts(
    last: Annotated[int, typer.Option("-n", "--last", min=1, help="So many, newest last.")] = 10,
) -> None:
    """Alerts of this home: refused data, crashed and failed runs, clients that stay away.

    Automations in Prefect's console send them here; docs/automations.md tells how to have them
    mailed.

    Example: `fedloom alerts -n 3`
    """
    found = read_alerts(stack_home())
    if not found:
        out.print(f"No alerts in {stack_home()}.", soft_wrap=True)
        return
    for one in found[-last:]:
        out.print(f"[bold]{one.at}  [/bold]", end="")
        out.print(one.subject, markup=False, soft_wrap=True)
        for line in one.body.strip().splitlines():
            out.print(f"    {line}".rstrip(), markup=False, highlight=False, soft_wrap=True)
    if len(found) > last:
        out.print(f"{len(found) - last} older: fedloom alerts -n {len(found)}")


def in_the_last_day() -> int:
    """How many alerts came in the last 24 hours."""
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    return sum(one.at >= since for one in read_alerts(stack_home()))
