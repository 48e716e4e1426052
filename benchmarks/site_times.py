"""When a run's announcements and answers came to lie in the mailbox, and sites' tasks began."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fedcore.sites.announcement import Ask, read_announcement
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.envelope import MOST_BYTES, open_envelope

Times = dict[tuple[str, int], float]
"""(site, round) -> seconds since the epoch."""


@dataclass
class Mailed:
    """Of the training jobs of one run, by the clock of the mailbox's folder.

    Answers are removed when the run ends, so they are looked for while it goes on.

    Attributes:
      folder: the mailbox.
      lanes: site -> its lane, as the coordinator has it.
    """

    folder: Path
    lanes: Mapping[str, Correspondence]
    _written: dict[str, float] = field(default_factory=dict)

    def look(self) -> None:
        """Notes what has come since."""
        for lane in self.lanes.values():
            place = self.folder / lane.lane.outbox
            for entry in os.scandir(place) if place.exists() else ():
                with suppress(FileNotFoundError):  # a blob that was taken over meanwhile
                    self._written.setdefault(entry.name, _when(Path(entry.path)))

    def times(self) -> tuple[Times, Times]:
        """When jobs were announced, and when their answers were there."""
        announced, answered = Times(), Times()
        for site, lane in self.lanes.items():
            number = 1
            while data := lane.mailbox.read(name := lane.lane.announcement(number), MOST_BYTES):
                number += 1
                sender = lane.coordinator.public
                envelope = open_envelope(data, sender=sender, recipient=site, run=lane.run)
                said = read_announcement(envelope.content)
                if said.ask is not Ask.TRAIN:
                    continue
                announced[site, said.round] = _when(self.folder / name)
                reply = lane.lane.reply(said.key, said.attempt).rpartition("/")[2]
                if reply in self._written:
                    answered[site, said.round] = self._written[reply]
        return announced, answered


def between_rounds(announced: Times, answered: Times) -> list[float]:
    """Seconds from a round's last answer to the first announcement of the next."""
    first, last = _by_round(announced, min), _by_round(answered, max)
    return [first[number + 1] - when for number, when in last.items() if number + 1 in first]


def until_started(announced: Times, tasks: list[dict[str, Any]], sites: Mapping[str, str]) -> Times:
    """Seconds from an announcement to the start of the site's task.

    Args:
      tasks: of Prefect, of the sessions' flow runs.
      sites: flow run -> site.
    """
    jobs = {(site, f"round-{round}/train"): (site, round) for site, round in announced}
    found = Times()
    for task in tasks:
        job = jobs.get((sites.get(task["flow_run_id"], ""), task["name"]))
        if job and task["start_time"]:
            begun = datetime.fromisoformat(task["start_time"]).timestamp()
            found[job] = begun - announced[job]
    return found


def _when(path: Path) -> float:
    # Not when it was written: it is written under another name, and linked when it is whole.
    return path.stat().st_ctime


def _by_round(times: Times, pick: Any) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for (_, number), when in times.items():
        found.setdefault(number, []).append(when)
    return {number: pick(whens) for number, whens in found.items()}
