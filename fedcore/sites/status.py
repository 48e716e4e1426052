"""Whether a site takes part now, and in which runs: what its administrator decides by command.

Each decision is in the audit log too. Where the two could differ because of a power cut, the one
that lets out less holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedcore.chain import RUN_ID
from fedcore.digests import canonical_json
from fedcore.sites.audit_entry import Flat
from fedcore.sites.audit_log import AuditLog, sync_folder

_DIGEST_DIGITS = frozenset("0123456789abcdef")


class StatusError(ValueError):
    """A status file cannot be used, or a decision cannot be taken; the message says the way out."""


@dataclass(frozen=True)
class Approved:
    """A run that a person at the site has approved: exactly this plan by exactly this program.

    Attributes:
      run: id.
      plan: digest of the run's configuration, 64 hex digits.
      code: digest of the sources that planned it, 64 hex digits.
    """

    run: str
    plan: str
    code: str

    def __post_init__(self) -> None:
        _check_run(self.run)
        for name in ("plan", "code"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 64 or not set(value) <= _DIGEST_DIGITS:
                raise StatusError(f"{name}: 64 lower-case hex digits, a SHA-256 digest.")


@dataclass(frozen=True)
class SiteStatus:
    """What holds now. The default is what a site without a status file does: nothing.

    Attributes:
      state: ``running`` or ``paused``; a paused site lets out nothing at all.
      withdrawn: runs that the site has left, sorted; they never get anything again.
      approved: runs that were approved by hand.
    """

    state: Literal["running", "paused"] = "paused"
    withdrawn: tuple[str, ...] = ()
    approved: tuple[Approved, ...] = ()

    def __post_init__(self) -> None:
        if self.state not in ("running", "paused"):
            raise StatusError("state: running or paused.")
        for run in self.withdrawn:
            _check_run(run)


def read_status(path: Path) -> SiteStatus:
    """The status in a file; paused, when there is none.

    Raises:
      StatusError: the file cannot be read or is damaged.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or set(value) != {"state", "withdrawn", "approved"}:
            raise StatusError("keys")
        approved = tuple(Approved(**one) for one in value["approved"])
        return SiteStatus(value["state"], tuple(value["withdrawn"]), approved)
    except FileNotFoundError:
        return SiteStatus()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StatusError(
            f"{path} cannot be read or is damaged, so that nothing leaves. Remove it: the site is "
            "paused then; withdraw and approve again what the audit log says, and resume."
        ) from error


def pause(path: Path, log: AuditLog) -> SiteStatus:
    """Nothing leaves from now on."""
    return _narrowed(path, log, "paused", "", lambda now: replace(now, state="paused"))


def resume(path: Path, log: AuditLog) -> SiteStatus:
    """The policy decides again what leaves."""
    return _widened(path, log, "resumed", "", lambda now: replace(now, state="running"))


def withdraw(path: Path, log: AuditLog, run: str) -> SiteStatus:
    """Nothing leaves for this run any more.

    Raises:
      StatusError: it cannot be the id of a run.
    """
    _check_run(run)
    return _narrowed(
        path,
        log,
        "withdrawn",
        run,
        lambda now: replace(now, withdrawn=tuple(sorted({*now.withdrawn, run}))),
    )


def approve(path: Path, log: AuditLog, approved: Approved) -> SiteStatus:
    """This plan of this run, by this program, may be answered as the policy says.

    Raises:
      StatusError: the site has withdrawn from the run.
    """

    def change(now: SiteStatus) -> SiteStatus:
        if approved.run in now.withdrawn:
            raise StatusError(
                f"run={approved.run!r}: this site has withdrawn from it, which is final; ask the "
                "coordinator to start a new run."
            )
        return replace(now, approved=(*(a for a in now.approved if a != approved), approved))

    details: dict[str, Flat] = {"plan": approved.plan, "code": approved.code}
    return _widened(path, log, "approved", approved.run, change, details)


Change = Callable[[SiteStatus], SiteStatus]


def _narrowed(path: Path, log: AuditLog, action: str, run: str, change: Change) -> SiteStatus:
    """First the status, then the log: a power cut between the two, or a broken log, lets out less.

    The log's lock also keeps two commands, or a command and a release, apart.
    """
    with log.writing() as writer:
        after = change(read_status(path))
        _write(path, after)
        writer.append(action, run=run, reason="by_hand")
    return after


def _widened(
    path: Path,
    log: AuditLog,
    action: str,
    run: str,
    change: Change,
    details: dict[str, Flat] | None = None,
) -> SiteStatus:
    """First the log, then the status: nothing is allowed that the log does not say."""
    with log.writing() as writer:
        after = change(read_status(path))
        writer.append(action, run=run, reason="by_hand", details=details)
        _write(path, after)
    return after


def _write(path: Path, status: SiteStatus) -> None:
    temporary = path.with_name(f".{path.name}.new")  # one writer at a time: the log is locked
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(canonical_json(asdict(status)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def _check_run(run: str) -> None:
    if not isinstance(run, str) or not RUN_ID.fullmatch(run):
        raise StatusError(f"run: the id of a run matches {RUN_ID.pattern}.")
