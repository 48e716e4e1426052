"""What was released about a data owner's data: charged durably before anything leaves.

One append-only file per owner, the site's hash-chained log (:mod:`fedcore.sites.audit_log`) with a
line per release. The order that keeps the promise through any kill: train; store the noisy bytes;
charge their digest; release the stored bytes. A job that is repeated finds its charge, releases the
same bytes and pays nothing; other bytes for the same job are refused.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcore.privacy.accounting import Epsilon, over_disjoint, spent
from fedcore.privacy.budget import Budget, Standing, require_affordable, standing
from fedcore.privacy.disjoint import events_about
from fedcore.privacy.events import Neighbours, SampledGaussian
from fedcore.sites.audit_entry import MOST_TEXT, Entry, LogBroken
from fedcore.sites.audit_log import START, AuditLog, Verified, Writer

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHARGED, _MENDED = "charged", "mended"


class AlreadyReleased(ValueError):
    """Other bytes, or another event, were charged for the same job and data."""


@dataclass(frozen=True)
class Charge:
    """One release, or what one release shows of one group's data.

    Attributes:
      key: job key.
      data: fingerprint of the data; for a group of persons :func:`group_fingerprint`.
      event: what was done to it.
      released: SHA-256 of the bytes that are released, 64 hex digits.
      run: the run it is for; empty when it is for none.

    Raises:
      ValueError: a text is empty or too long, or ``released`` is no digest.
    """

    key: str
    data: str
    event: SampledGaussian
    released: str
    run: str = ""

    def __post_init__(self) -> None:
        for name in ("key", "data"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a charge must say what it is for.")
        for name in ("key", "data", "run"):
            if len(getattr(self, name)) > MOST_TEXT:
                raise ValueError(f"{name} is longer than {MOST_TEXT} characters.")
        if not _DIGEST.fullmatch(self.released):
            raise ValueError("released must be the SHA-256 of the released bytes, 64 hex digits.")

    def to_json(self) -> dict[str, Any]:
        """Nested JSON, for an export."""
        return {
            "key": self.key,
            "data": self.data,
            "run": self.run,
            "released": self.released,
            "event": self.event.to_json(),
        }


def group_fingerprint(data: str, group: str) -> str:
    """Fingerprint of one group of persons in the data, which has a budget of its own.

    What is charged to all of the data counts for each group too. A charge to all of them is held
    against what each group has told: its budget is that of the group that told most.
    """
    return f"{data}/{group}"


def shown_name(data: str) -> str:
    """A fingerprint as it stands in tables and messages: a digest shortened, a group not.

    >>> shown_name(group_fingerprint("0123456789abcdef", "over-60"))
    '0123456789ab/over-60'
    """
    whole, slash, group = data.partition("/")
    return whole[:12] + slash + group


class Ledger:
    """The charges in one file, made by any number of processes.

    Attributes:
      path: of the file.

    >>> ledger = Ledger(getfixture("tmp_path") / "ledger.jsonl")
    >>> budget = Budget(epsilon=1.0, delta=1e-5)
    >>> ledger.charge(Charge("job", "data", SampledGaussian(0.01, 2.0, 100), "0" * 64), budget)
    True
    >>> round(ledger.spent("data", 1e-5).value, 2)
    0.19
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._log = AuditLog(self.path)
        self._cursor = START
        self._charges: tuple[Charge, ...] = ()
        self._reading = threading.Lock()

    def charge(self, charge: Charge, *budgets: Budget) -> bool:
        """Writes a charge down; it is on the disk when this returns, and the bytes may leave.

        Args:
          charge: of the release.
          budgets: each must cover it.

        Returns:
          whether it was new; a repeated one is free.

        Raises:
          BudgetExceeded: a budget does not cover it; nothing is charged.
          AlreadyReleased: something else was charged for this job and data.
          LogBroken: the ledger is not the one that was written.
          OSError: it cannot be written; nothing is charged.
        """
        return self.charge_together([(charge, budgets)])

    def charge_together(self, charges: Iterable[tuple[Charge, Sequence[Budget]]]) -> bool:
        """One release that several fingerprints pay for, such as groups of persons: all or none.

        A crash in the middle leaves some charged; the repeated job charges the others.

        Args:
          charges: each with its budgets.

        Returns, raises:
          as :meth:`charge`.
        """
        with self._log.writing() as writer:
            known = list(self.charges())
            by_job = {(one.key, one.data): one for one in known}
            new = []
            for charge, budgets in charges:
                if _is_known(charge, by_job.get((charge.key, charge.data))):
                    continue
                _require(known, charge.data, charge.event, budgets, charge.run)
                by_job[charge.key, charge.data] = charge
                known.append(charge)
                new.append(charge)
            for charge in new:
                _append(writer, charge)
            return bool(new)

    def require(self, data: str, event: SampledGaussian, *budgets: Budget, run: str = "") -> None:
        """Whether budgets cover an event, asked before the work; raises as :meth:`charge`."""
        _require(self.charges(), data, event, budgets, run)

    def charged(self, key: str, data: str) -> Charge | None:
        """The charge of a job that was released, or was about to be."""
        return next((one for one in self.charges() if (one.key, one.data) == (key, data)), None)

    def charges(self, data: str | None = None, run: str | None = None) -> tuple[Charge, ...]:
        """All charges in their order, or those of one fingerprint, or of one run.

        Raises:
          LogBroken: a line was changed, removed, inserted or moved; names it.
        """
        with self._reading:
            read = list(self._log.since(self._cursor))
            new = (_parsed(entry, self.path) for entry, _ in read if entry.action != _MENDED)
            self._charges += tuple(new)
            self._cursor = read[-1][1] if read else self._cursor
            found = self._charges
        return tuple(one for one in found if data in (None, one.data) and run in (None, one.run))

    def spent(
        self,
        data: str,
        delta: float,
        neighbours: Neighbours = "add_or_remove",
        *,
        run: str | None = None,
    ) -> Epsilon:
        """What was spent of one fingerprint's privacy, by all runs or by one; where groups in the
        data were charged, of the group's that told most
        (:func:`fedcore.privacy.disjoint.events_about`)."""
        charges = self.charges(run=run)
        each = (_events(charges, part) for part in _parts(charges, data))
        return over_disjoint(spent(events, delta, neighbours) for events in each)

    def events(self, data: str) -> tuple[SampledGaussian, ...]:
        """All that was released about data, or about a group in them."""
        return _events(self.charges(), data)

    def standing(
        self,
        data: str,
        budget: Budget,
        following: SampledGaussian | None = None,
        *,
        run: str = "",
    ) -> Standing:
        """Where a budget stands; ``following`` as in :func:`fedcore.privacy.budget.standing`."""
        charges = _in_scope(self.charges(), budget, run)
        each = (_events(charges, part) for part in _parts(charges, data))
        found = (standing(events, budget, following) for events in each)
        return max(found, key=lambda one: one.spent.value)

    def verify(self, head: str | None = None) -> Verified:
        """As :meth:`AuditLog.verify <fedcore.sites.audit_log.AuditLog.verify>`."""
        return self._log.verify(head)

    def to_json(self, delta: float, neighbours: Neighbours = "add_or_remove") -> dict[str, Any]:
        """All charges, what is spent of each fingerprint, and the head that vouches for them."""
        verified, charges = self.verify(), self.charges()
        total = {data: self.spent(data, delta, neighbours) for data in {c.data for c in charges}}
        return {
            "head": verified.head,
            "delta": delta,
            "neighbours": neighbours,
            "spent": {
                data: {"rdp": one.rdp, "prv": one.prv} for data, one in sorted(total.items())
            },
            "charges": [charge.to_json() for charge in charges],
        }


def _is_known(charge: Charge, earlier: Charge | None) -> bool:
    """Whether it was charged before; raises when that was for something else."""
    if earlier is None:
        return False
    if (earlier.released, earlier.event) == (charge.released, charge.event):
        return True
    what = "bytes" if earlier.released != charge.released else "event"
    raise AlreadyReleased(
        f"job {charge.key[:12]}: the ledger has other {what} for this job. Release the stored "
        "bytes again; noise is never drawn twice for one job key."
    )


def _append(writer: Writer, charge: Charge) -> None:
    writer.append(
        _CHARGED,
        run=charge.run,
        subject=charge.key,
        details={"data": charge.data, "released": charge.released, **charge.event.to_json()},
    )


def _parsed(entry: Entry, path: Path) -> Charge:
    try:
        if entry.action != _CHARGED:
            raise ValueError
        event: dict[str, Any] = dict(entry.details)
        data, released = event.pop("data"), event.pop("released")
        return Charge(entry.subject, data, SampledGaussian.from_json(event), released, entry.run)
    except (ValueError, TypeError, KeyError):
        raise LogBroken(
            f"{path}, line {entry.seq}: not a charge as a ledger writes it. Put the file aside and "
            "put back a copy."
        ) from None


def _in_scope(charges: Iterable[Charge], budget: Budget, run: str) -> tuple[Charge, ...]:
    return tuple(one for one in charges if budget.scope == "data" or one.run == run)


def _parts(charges: Iterable[Charge], data: str) -> list[str]:
    """Whose privacy is spent by what is charged to data: their groups', where there are any."""
    groups = {one.data for one in charges if one.data.startswith(f"{data}/")}
    return sorted(groups) or [data]


def _events(charges: Iterable[Charge], part: str) -> tuple[SampledGaussian, ...]:
    """What somebody in the data, or in a group of them, may have paid for."""
    found: dict[str, list[SampledGaussian]] = {}
    for one in charges:
        found.setdefault(one.data, []).append(one.event)
    return events_about(part, found)


def _require(
    charges: Iterable[Charge],
    data: str,
    event: SampledGaussian,
    budgets: Iterable[Budget],
    run: str,
) -> None:
    charges = tuple(charges)
    for budget in budgets:
        counted = _in_scope(charges, budget, run)
        for part in _parts(counted, data):
            whose = f"data {shown_name(part)}"
            whose += f" in run {run[:12]}" if budget.scope == "run" else ""
            require_affordable(_events(counted, part), event, budget, whose=whose)
