"""Alerts of this home: what automations told, kept where an operator without mail finds it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


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


def append_alert(home: Path, subject: str, body: str) -> Alert:
    """Keep an alert, on disk when this returns."""
    alert = Alert(datetime.now(UTC).isoformat(timespec="seconds"), subject, body)
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
