"""``fedloom events``: what a run told, from the event log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.screen import err, fail, reasons_for

if TYPE_CHECKING:
    from fedcore.event_log import EventLog
    from fedcore.events import Event

# Wide enough for the longest type, status and an ordinary client id.
LINE = "{time}  {round:>5}  {type:<22}  {node:<14}  {status:<10}  {more}"


def events(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The whole id of the run.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each new event until the run stops.")
    ] = False,
    type: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", help="Only this type, `node_error` for example; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value per line.")] = False,
) -> None:
    """What a run told: rounds, clients, errors, pauses. `docs/events.md` explains every type.

    The log is `events.db` in `$FEDLOOM_HOME`, or the database at `$FEDLOOM_EVENTS`.

    Examples:

        fedloom events 1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124 --type node_error

        fedloom events RUN --follow --json | jq .message
    """
    from fedcore.event_log import EventLogUnavailable
    from tasks import home

    wanted = _types(type or [])
    with reasons_for(EventLogUnavailable, ValueError):
        log = home.event_log()
        bring_in(log, home.spool())
        found: Iterable[Event] = log.follow(run_id) if follow else log.history(run_id)
        count = 0
        try:
            for event in found:
                count += 1
                if not wanted or event.type in wanted:
                    print(json.dumps(event.to_json()) if as_json else line(event), flush=True)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    if not count:
        fail(f"the event log {log.where} has nothing of a run {run_id!r}. It wants the whole id.")


def line(event: Event) -> str:
    """An event for people.

    >>> from fedcore.events import Event, EventType
    >>> line(Event(EventType.RUN_PAUSED, "paused", 2, run_id="r", ts=0.0,
    ...     event_id="018bcfe5-6800-7000-8000-000000000000", message="lunch"))
    '1970-01-01 00:00:00.000      2  run_paused              coordinator     paused      lunch'
    """
    time = datetime.fromtimestamp(event.ts, UTC).strftime("%F %T.%f")[:-3]
    return LINE.format(
        time=time,
        round=event.round or "",
        type=event.type.value,
        node=event.node_id,
        status=event.status,
        more="  ".join(_more(event)),
    ).rstrip()


def bring_in(log: EventLog, spool: Path) -> None:
    """Brings in what a process that is gone could not deliver, or says why not."""
    from fedcore.event_log import EventLogUnavailable
    from fedcore.event_sink import deliver_leftovers

    try:
        deliver_leftovers(spool, log)
    except (EventLogUnavailable, OSError) as error:
        err.print(f"warning: some events are still in {spool}: {error}", soft_wrap=True)


def _more(event: Event) -> Iterator[str]:
    if event.latency_ms is not None:
        yield f"{event.latency_ms / 1000:.2f} s"
    if event.payload_bytes is not None:
        yield f"{event.payload_bytes} B"
    yield from (f"{name} {value:.4g}" for name, value in event.metrics.items())
    if event.message:
        yield event.message


def _types(names: list[str]) -> set[str]:
    from fedcore.events import EventType

    if unknown := sorted(set(names) - set(EventType)):
        fail(f"--type {unknown[0]}: no such type; there are {', '.join(EventType)}.")
    return set(names)
