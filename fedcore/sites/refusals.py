"""What the trust boundary refused, for the coordinator's people: an event and an entry in its audit
log each, at a bounded rate, and never in the way of a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fedcore.events import Emit, silent
from fedcore.facts import not_admitted
from fedcore.sites.audit_entry import Entry, Flat, LogBroken
from fedcore.sites.audit_log import AuditLog
from fedcore.sites.refusal import Reason, Refusal

Refused = Callable[[str, Refusal, str, int], None]
"""Called with site, refusal, what was asked and round (0: before the first)."""

ACTION = "refused"
# By site and code; what comes beyond within a minute is one more entry, with the number of them.
EACH_A_MINUTE = 5
MINUTE = 60.0


def untold(site: str, refusal: Refusal, ask: str, round: int) -> None:
    """Where nobody is told of refusals."""


@dataclass
class Refusals:
    """Tells and keeps the refusals of one run.

    The log grows by ``EACH_A_MINUTE + 1`` lines a minute for each site and code at most, however
    much is refused; there are as many codes as :class:`fedcore.sites.refusal.Reason` has.

    Attributes:
      log: the coordinator's.
      run: id of the run.
      emit: takes the events.
      warn: told, once, that the log cannot be written; the run goes on.
      clock: seconds.
    """

    log: AuditLog
    run: str
    emit: Emit = silent
    warn: Callable[[str], None] = lambda message: None
    clock: Callable[[], float] = time.monotonic
    _since: dict[tuple[str, Reason], float] = field(default_factory=dict, init=False)
    _count: dict[tuple[str, Reason], int] = field(default_factory=dict, init=False)
    _has_warned: bool = field(default=False, init=False)

    def refused(self, site: str, refusal: Refusal, ask: str, round: int) -> None:
        """Takes note of one refusal."""
        key, now = (site, refusal.reason), self.clock()
        if now - self._since.get(key, now) >= MINUTE:
            self._settle(key)
        self._since.setdefault(key, now)
        self._count[key] = count = self._count.get(key, 0) + 1
        if count <= EACH_A_MINUTE:
            self._keep(key, 1, {"ask": ask, "round": round, "what": refusal.what})

    def close(self) -> None:
        """Keeps what was only counted so far; to be called at the end."""
        for key in list(self._since):
            self._settle(key)

    def _settle(self, key: tuple[str, Reason]) -> None:
        more = self._count.pop(key) - EACH_A_MINUTE
        seconds = round(self.clock() - self._since.pop(key), 1)
        if more > 0:
            self._keep(key, more, {"seconds": seconds})

    def _keep(self, key: tuple[str, Reason], count: int, details: dict[str, Flat]) -> None:
        (site, reason), number = key, int(str(details.get("round", 0)))
        what = str(details.get("what", ""))
        self.emit(not_admitted(number, site, str(Refusal(reason, what)), count))
        try:
            about: dict[str, Flat] = {**details, "count": count}
            self.log.append(ACTION, run=self.run, subject=site, reason=str(reason), details=about)
        except (OSError, LogBroken, ValueError) as error:
            if not self._has_warned:
                self.warn(f"the run goes on; a refusal was not written to the audit log: {error}")
            self._has_warned = True


def refusals_of(entries: Iterable[Entry], run: str) -> dict[str, dict[str, int]]:
    """Site -> code -> how often something of it was refused in a run, both sorted."""
    found: dict[str, dict[str, int]] = {}
    for one in entries:
        if one.action == ACTION and one.run == run:
            codes = found.setdefault(one.subject, {})
            codes[one.reason] = codes.get(one.reason, 0) + int(str(one.details["count"]))
    return {site: dict(sorted(codes.items())) for site, codes in sorted(found.items())}


def refusal_words(found: dict[str, dict[str, int]]) -> str:
    """The same in a line.

    >>> refusal_words({"north": {"norm": 1, "signature": 12}, "south": {"late": 2}})
    'north: norm 1, signature 12; south: late 2'
    """
    return "; ".join(
        f"{site}: " + ", ".join(f"{code} {count}" for code, count in codes.items())
        for site, codes in found.items()
    )
