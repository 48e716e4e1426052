"""An audit log on the screen: a site's own, or the coordinator's."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.sites.audit_entry import Entry
    from fedcore.sites.audit_log import AuditLog

Run = Annotated[str | None, typer.Option("--run", help="Only what is about this run.")]
Count = Annotated[int, typer.Option("-n", min=1, help="The last so many entries.")]
Head = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="DIGEST", help="Noted down earlier; it must still be in the log."
    ),
]


def show_log(log: AuditLog, run: str | None, count: int) -> None:
    """The last entries; where the log is broken those before, and then why."""
    from fedcore.sites.audit_entry import LogBroken

    last: deque[Entry] = deque(maxlen=count)
    broken = None
    with reasons_for(OSError):
        try:
            for entry in log.entries():
                if run in (None, entry.run):
                    last.append(entry)
        except LogBroken as error:  # what stands before is still shown
            broken = error
    for entry in last:
        print(_line(entry))
    if broken:
        fail(broken)


def verify_log(log: AuditLog, head: str | None) -> None:
    """Count and head; ends with 1 where an entry is not in its place."""
    from fedcore.sites.audit_entry import LogBroken

    with reasons_for(LogBroken, OSError):
        found = log.verify(head)
    out.print(f"{found.count} entries, each in its place and unchanged")
    if found.torn:
        out.print(f"{found.torn} bytes of an unfinished line; the next entry puts them aside")
    out.print(f"head  {found.head}", soft_wrap=True)


def _line(entry: Entry) -> str:
    details = entry.details
    words = [entry.ts, entry.action, entry.run, entry.subject, entry.reason]
    shown = ("ask", "round", "what", "count", "bytes")
    words += [f"{name}={details[name]}" for name in shown if details.get(name, "") != ""]
    if fields := details.get("fields"):
        words.append(f"fields={','.join(map(str, fields))}")  # type: ignore[arg-type]
    return "  ".join(word for word in words if word)
