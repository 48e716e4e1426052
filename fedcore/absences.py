"""Clients that miss one round after another, counted from the records in the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedcore.chain import RoundRecord
from fedcore.events import EventType, Fact, Role

# Once by accident, twice by bad luck; whoever misses three needs somebody who looks.
PATIENCE = 3
STATUS = f"missing-{PATIENCE}"


def missed(before: Mapping[str, int], record: RoundRecord) -> dict[str, int]:
    """Client -> rounds in a row that asked it in vain, after one more round.

    Rounds that did not ask a client change nothing for it.
    """
    asked = {
        client: 0 if record.outcomes[client]["status"] == "done" else before.get(client, 0) + 1
        for client in record.cohort
    }
    return {**before, **asked}


def told(record: RoundRecord, now: Mapping[str, int]) -> Iterator[Fact]:
    """One fact for each client that has missed three rounds in a row with this one; not again
    before it has come back."""
    for client in record.cohort:
        if now[client] == PATIENCE:
            yield Fact(
                EventType.NODE_ERROR,
                STATUS,
                record.round,
                client,
                Role.CLIENT,
                message=f"missed {PATIENCE} rounds in a row; the last time: "
                f"{record.outcomes[client].get('reason', '')}",
            )
