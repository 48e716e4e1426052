"""How much one site may ask of the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from deployments.stack.stack import StackError
from fedcore.settings import Settings
from fedcore.strict_yaml import StrictLoader


class Limits(Settings):
    """What one site may ask of the gateway: the file ``gateway.yaml`` in the stack's folder."""

    per_second: float = Field(
        50.0, gt=0, le=10_000, description="Requests and events of one site a second, in the mean."
    )
    burst: int = Field(
        200, ge=1, le=100_000, description="Requests and events of one site at once, after a rest."
    )
    most_bytes: int = Field(
        2**20, ge=1024, le=2**26, description="Size of one request or event, in bytes."
    )
    most_streams: int = Field(
        64, ge=1, le=1000, description="Streams of events that one site may keep open."
    )
    seconds: float = Field(
        30.0, gt=0, le=600, description="Patience with a body that comes slowly and with the API."
    )


def read_limits(home: Path) -> Limits:
    """Those of a stack; the defaults when it has no file.

    Raises:
      StackError: the file says what cannot be; the message names the key.
    """
    file = home / "gateway.yaml"
    if not file.exists():
        return Limits()
    try:
        found: Any = yaml.load(file.read_text(encoding="utf-8"), StrictLoader)
        return Limits.model_validate(found or {})
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise StackError(f"{file}: {error}") from error


@dataclass
class Bucket:
    """A token bucket: ``burst`` at once, ``per_second`` in the mean."""

    per_second: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._seen = float(self.burst), self.clock()

    def take(self) -> float:
        """Takes one; returns 0, or the seconds until there is one (then nothing was taken)."""
        now = self.clock()
        self._left = min(float(self.burst), self._left + (now - self._seen) * self.per_second)
        self._seen = now
        if self._left >= 1.0:
            self._left -= 1.0
            return 0.0
        return (1.0 - self._left) / self.per_second

    def charge(self, count: float) -> None:
        """Takes more than one, and goes into debt for it, but never for more than a burst."""
        self._left = max(-float(self.burst), self._left - count)
