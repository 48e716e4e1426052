"""Alerts of this home: what automations told, kept where an operator without mail finds it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

AGAIN = timedelta(minutes=1)
NEWEST = 50


@dataclass(frozen=True)
class Alert:
    """Something an operator should look at.

    Attributes:
      at: ISO 8601, UTC.
      subject: one line.
      body: some lines, with the way to more.
    """

    at: str
    subject: str
    body: str


def alerts_file(home: Path) -> Path:
    """Where alerts are kept: one JSON object a line, the newest last."""
    return home / "alerts.jsonl"


def append_alert(home: Path, subject: str, body: str, now: datetime | None = None) -> Alert | None:
    """Keep an alert, on disk when this returns; None when the same one came within a minute.

    Prefect may fire twice for one event: what failed while it was handled is handled again.
    """
    now = now or datetime.now(UTC)
    alert = Alert(now.isoformat(timespec="seconds"), subject, body)
    for one in read_alerts(home)[-NEWEST:]:
        is_new = now - datetime.fromisoformat(one.at) < AGAIN
        if is_new and (one.subject, one.body) == (subject, body):
            return None
    line = (json.dumps(asdict(alert)) + "\n").encode()
    file = os.open(alerts_file(home), os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(file, line)  # in one piece, so that a reader never sees half of it
        os.fsync(file)
    finally:
        os.close(file)
    return alert


def read_alerts(home: Path) -> list[Alert]:
    """All alerts, oldest first. A line that a full disk cut off is left out."""
    try:
        lines = alerts_file(home).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Alert(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found
