"""How long a run still takes: from its own rounds, before the first one from its preflight."""

from __future__ import annotations

from statistics import median

from fedcore.snapshot import Snapshot

# Rounds that tell the pace: the last ones, because a machine is not always equally busy.
PACE_ROUNDS = 5


def remaining_seconds(progress: Snapshot, planned: float | None) -> float | None:
    """Seconds until the last round is done; None while nobody knows.

    Args:
      progress: what the events say.
      planned: seconds of all rounds, by the preflight.
    """
    if progress.stage != "rounds" or not progress.rounds:
        return None
    if not progress.lines:
        return planned
    pace = median(line.seconds for line in progress.lines[-PACE_ROUNDS:])
    return pace * max(0, progress.rounds - progress.lines[-1].round)


def planned_seconds(run_id: str) -> float | None:
    """What the preflight of a run found; None when it has none yet."""
    from fedcore.chain import Chain
    from fedcore.preflight import NOTE
    from tasks import home

    try:
        found = Chain(home.store(), run_id).annotation(NOTE)
    except (OSError, ValueError):
        return None
    return None if found is None else float(found["seconds"])
