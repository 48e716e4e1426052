"""``fedloom sites log``: what the coordinator refused, and whom it registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deployments.cli.audit_log import Count, Head, Run, show_log, verify_log

if TYPE_CHECKING:
    from fedcore.sites.audit_log import AuditLog

app = typer.Typer(
    no_args_is_help=True,
    help="What of sites was refused, and whom the coordinator registered: each line is bound to "
    "the one before.",
)


@app.command()
def show(run: Run = None, count: Count = 20) -> None:
    """What was refused or registered: when, of which run, site and round, by which code.

    Of much that is refused alike the first few of a minute have a line of their own; `count` says
    how many the others were.

    Example: `fedloom sites log show -n 50`
    """
    show_log(_log(), run, count)


@app.command()
def verify(head: Head = None) -> None:
    """Whether every entry is in its place and unchanged; the exit code is 1 where one is not.

    Note the printed head elsewhere: only against it is found that entries were cut from the end.

    Example: `fedloom sites log verify`
    """
    verify_log(_log(), head)


def _log() -> AuditLog:
    from fedcore.sites.coordinator import Coordinator
    from tasks import home

    return Coordinator(home.coordinator()).log
