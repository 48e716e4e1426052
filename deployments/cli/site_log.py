"""``fedloom site log``: the site's own record of what it decided."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for
from deployments.cli.site_folder import HERE, Folder, opened

if TYPE_CHECKING:
    from fedcore.sites.audit_entry import Entry

app = typer.Typer(
    no_args_is_help=True, help="What the site decided: each line is bound to the one before."
)


@app.command()
def show(
    run: Annotated[str | None, typer.Option(help="Only what is about this run.")] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="The last so many entries.")] = 20,
    folder: Folder = HERE,
) -> None:
    """What was decided: when, what, for which run and round, by which rule, how many bytes.

    Example: `fedloom site log show -n 50`
    """
    from fedcore.sites.audit_entry import LogBroken

    last: deque[Entry] = deque(maxlen=count)
    broken = None
    with reasons_for(OSError):
        try:
            for entry in opened(folder, reads=False).log.entries():
                if run in (None, entry.run):
                    last.append(entry)
        except LogBroken as error:  # what stands before is still shown
            broken = error
    for entry in last:
        print(_line(entry))
    if broken:
        fail(broken)


@app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Noted down earlier; it must still be in the log."),
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Whether every entry is in its place and unchanged; the exit code is 1 where one is not.

    Note the printed head elsewhere: only against it is found that entries were cut from the end.

    Example: `fedloom site log verify`
    """
    from fedcore.sites.audit_entry import LogBroken

    with reasons_for(LogBroken, OSError):
        found = opened(folder, reads=False).log.verify(head)
    out.print(f"{found.count} entries, each in its place and unchanged")
    if found.torn:
        out.print(f"{found.torn} bytes of an unfinished line; the next entry puts them aside")
    out.print(f"head  {found.head}", soft_wrap=True)


def _line(entry: Entry) -> str:
    details = entry.details
    words = [entry.ts, entry.action, entry.run, entry.subject, entry.reason]
    words += [f"{name}={details[name]}" for name in ("round", "bytes") if name in details]
    if fields := details.get("fields"):
        words.append(f"fields={','.join(map(str, fields))}")  # type: ignore[arg-type]
    return "  ".join(word for word in words if word)
