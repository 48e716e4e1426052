"""One line of a site's audit log, bound to the line before by its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedcore.digests import canonical_json, digest_json

GENESIS = "0" * 64  # what the first line follows
MOST_TEXT = 200  # characters of one text
MOST_LINE = 16_384  # bytes; a decision needs under 1000
_FIELDS = {"seq", "ts", "previous", "action", "run", "subject", "reason", "details", "digest"}

Flat = str | int | float | bool | None | list[str]


class LogBroken(ValueError):
    """The audit log is not the one that was written; the message names the line and what is wrong.

    It never quotes the line.
    """


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
      seq: from 1.
      ts: ISO 8601, UTC, milliseconds, as the site's clock had it.
      previous: digest of the line before; 64 zeros for the first.
      action: what was done, e.g. ``released``, ``withheld``.
      run: the run it was about; empty when about none.
      subject: what of it, e.g. ``train``.
      reason: a code.
      details: sizes, names of fields and rules; never values of a release.
    """

    seq: int
    ts: str
    previous: str
    action: str
    run: str
    subject: str
    reason: str
    details: Mapping[str, Flat]

    @property
    def digest(self) -> str:
        """SHA-256 of the entry's canonical JSON: the head of a log that ends with it."""
        return digest_json(asdict(self))

    @property
    def line(self) -> bytes:
        """The bytes in the file, with the end of line."""
        return (canonical_json(asdict(self) | {"digest": self.digest}) + "\n").encode()


def make_entry(
    seq: int,
    ts: str,
    previous: str,
    action: str,
    run: str,
    subject: str,
    reason: str,
    details: Mapping[str, Any],
) -> Entry:
    """The entry with these values, in bounds.

    Raises:
      ValueError: a text is too long, or ``details`` are not small flat JSON; names the field.
    """
    flat = {name: _flat(name, value) for name, value in details.items()}
    texts = {"action": action, "run": run, "subject": subject, "reason": reason}
    for name, text in (*texts.items(), *(("details", key) for key in flat)):
        _require_short(name, text)
    entry = Entry(seq, ts, previous, action, run, subject, reason, flat)
    if (size := len(entry.line)) > MOST_LINE:
        raise ValueError(f"details make a line of {size} bytes; at most {MOST_LINE} are kept.")
    return entry


def parsed(line: bytes) -> Entry | None:
    """The entry whose line this is, byte for byte; None when it is of none."""
    try:
        value: dict[str, Any] = json.loads(line)
        if set(value) != _FIELDS or type(value["seq"]) is not int:
            return None
        digest = value.pop("digest")
        entry = Entry(**value)
        return entry if entry.digest == digest and entry.line == line else None
    except (ValueError, TypeError, RecursionError):
        return None


def _flat(name: str, value: Any) -> Flat:
    texts = value if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []
    for text in texts:
        _require_short(f"details.{name}", text)
    if isinstance(value, list | tuple):
        return list(value)
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"details.{name} is a {type(value).__name__}; entries hold flat JSON.")
    return value


def _require_short(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{name} is a {type(text).__name__}; it must be text.")
    if len(text) > MOST_TEXT:
        raise ValueError(f"{name} has {len(text)} characters; at most {MOST_TEXT} are kept.")
