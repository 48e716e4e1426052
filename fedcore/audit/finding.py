"""One thing that an audit has found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One problem; names and indices of samples only, never their content.

    Attributes:
      check: name of the check, e.g. ``exact-duplicates``.
      severity: an ``error`` stops the run unless a remedy has dealt with it.
      splits: where; two for what crosses them.
      count: how many samples, pairs or labels, as the message says.
      message: one sentence.
      examples: up to five places, e.g. ``train[17] = val[3]``.
      remedy: what was done about it; empty when nothing was.
    """

    check: str
    severity: Severity
    splits: tuple[str, ...]
    count: int
    message: str
    examples: tuple[str, ...] = ()
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        value = asdict(self)
        return {**value, "splits": list(self.splits), "examples": list(self.examples)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Finding:
        """The finding that ``to_json`` described."""
        lists = {"splits": tuple(value["splits"]), "examples": tuple(value["examples"])}
        return Finding(**{**value, **lists})
