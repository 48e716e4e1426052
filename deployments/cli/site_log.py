"""``fedloom site log``: the site's own record of what it decided."""

from __future__ import annotations

import typer

from deployments.cli.audit_log import Count, Head, Run, show_log, verify_log
from deployments.cli.site_folder import HERE, Folder, opened

app = typer.Typer(
    no_args_is_help=True, help="What the site decided: each line is bound to the one before."
)


@app.command()
def show(run: Run = None, count: Count = 20, folder: Folder = HERE) -> None:
    """What was decided: when, what, for which run and round, by which rule, how many bytes.

    Example: `fedloom site log show -n 50`
    """
    show_log(opened(folder, reads=False).log, run, count)


@app.command()
def verify(head: Head = None, folder: Folder = HERE) -> None:
    """Whether every entry is in its place and unchanged; the exit code is 1 where one is not.

    Note the printed head elsewhere: only against it is found that entries were cut from the end.

    Example: `fedloom site log verify`
    """
    verify_log(opened(folder, reads=False).log, head)
