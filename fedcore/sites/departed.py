"""What left a site on one day, as its audit log says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedcore.sites.audit_entry import Entry
from fedcore.sites.tally import ANSWERS


@dataclass(frozen=True)
class Departed:
    """Of one day.

    Attributes:
      rounds: of all runs, that were answered.
      answers: that left, those sent again too.
      excuses: that nothing leaves, by one code.
      bytes: of all of these.
    """

    rounds: int
    answers: int
    excuses: int
    bytes: int


def departed(entries: Iterable[Entry], day: str) -> Departed:
    """What left on a day.

    Args:
      day: ``YYYY-MM-DD``, UTC.
    """
    today = [one for one in entries if one.ts.startswith(day)]
    answers = [one for one in today if one.action in ANSWERS]
    excuses = [one for one in today if one.action == "excused"]
    return Departed(
        len({(one.run, one.details["round"]) for one in answers}),
        len(answers),
        len(excuses),
        sum(int(str(one.details["bytes"])) for one in answers + excuses),
    )
