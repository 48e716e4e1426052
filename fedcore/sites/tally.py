"""How much a site has answered, as its audit log says."""

from __future__ import annotations

from collections import defaultdict

from fedcore.sites.audit_entry import Entry
from fedcore.sites.outgoing import Asked

ANSWERS = ("released", "resent")


class Tally:
    """Rounds per day and answers per round; grows by :meth:`add` of each entry of the log."""

    def __init__(self) -> None:
        self._rounds: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self._answers: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)

    def add(self, entry: Entry) -> None:
        """Counts an entry, if it is an answer."""
        if entry.action in ANSWERS:
            number, key = int(str(entry.details["round"])), str(entry.details["key"])
            self._rounds[entry.ts[:10]].add((entry.run, number))
            self._answers[entry.run, number, entry.subject].add(key)

    def rounds_with(self, asked: Asked, day: str) -> int:
        """Rounds answered on the day (``YYYY-MM-DD``, UTC) once this one is.

        Rounds of later days count too: a clock that was set back gives no day a second time.
        """
        days = [rounds for one, rounds in self._rounds.items() if one >= day]
        return len({(asked.run, asked.round)}.union(*days))

    def answers_with(self, asked: Asked) -> int:
        """Answers of this kind in this round once this one is; the same answer counts once."""
        before = self._answers.get((asked.run, asked.round, asked.kind), ())
        return len({*before, asked.key})
