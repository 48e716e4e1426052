"""``fedloom store``: what the content-addressed store holds, and removing what nobody needs."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.screen import out, reasons_for

app = typer.Typer(
    no_args_is_help=True, help="The store of blobs: what it holds, and removing what is not needed."
)


@app.command()
def du() -> None:
    """How much the store holds, and how much of it the chains of runs need.

    Example: `FEDLOOM_HOME=/data/fedloom fedloom store du`
    """
    from fedcore.report.words import size
    from fedcore.retention import measure
    from tasks.home import store

    with reasons_for(OSError, ValueError):
        here = store()
        usage = measure(here)
    out.print(f"store    {here.url}", soft_wrap=True)
    out.print(f"holds    {size(usage.bytes)} in {usage.blobs} blobs")
    out.print(
        f"needed   {size(usage.needed_bytes)} in {usage.needed_blobs} blobs, by {usage.runs} runs"
    )


@app.command()
def gc(
    older_than_hours: Annotated[
        float, typer.Option(min=0, help="Younger blobs stay: a run may be about to commit them.")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say how much.")] = False,
) -> None:
    """Remove blobs that no run's chain and no registered version needs, client updates among them.

    What was removed is worked out again when a later run wants it; results never change.

    Example: `fedloom store gc --dry-run`
    """
    from fedcore.report import words
    from fedcore.retention import collect
    from tasks.home import store

    with reasons_for(OSError, ValueError):
        blobs, size = collect(
            store(), older_than_seconds=3600 * older_than_hours, is_rehearsal=dry_run
        )
    out.print(f"{'Would remove' if dry_run else 'Removed'} {blobs} blobs, {words.size(size)}")
