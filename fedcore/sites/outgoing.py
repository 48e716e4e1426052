"""What a site may want to send, by type, and what comes out of its gate.

There is no member for free text: what has no type here cannot leave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from fedcore.chain import RUN_ID
from fedcore.refs import Ref
from fedcore.sites.codes import Code
from fedcore.sites.description import Description
from fedcore.sites.policy import Kind
from fedcore.tensors import Arrays

PURPOSE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DIGEST = re.compile(r"[0-9a-f]{64}")
WORD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")  # names that installed code gives, not data
KINDS: tuple[str, ...] = get_args(Kind)
MOST_ROUNDS = 10**6


@dataclass(frozen=True)
class Asked:
    """Who asks for what.

    Attributes:
      run: id of the run.
      purpose: name of its configuration.
      kind: of the work.
      round: from 1; 0 before the first.
      key: the job's identity as this site computes it, 64 hex digits.
      plan: digest of the run's configuration.
      code: digest of the sources that planned it.
      private: its training protects each record with noise from this site's secret.

    Raises:
      ValueError: a field is not of its form; names the field and never quotes it.
    """

    run: str
    purpose: str
    kind: str
    round: int
    key: str
    plan: str
    code: str
    private: bool = False

    def __post_init__(self) -> None:
        patterns = {"run": RUN_ID, "purpose": PURPOSE}
        patterns |= dict.fromkeys(("key", "plan", "code"), DIGEST)
        for name, pattern in patterns.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise ValueError(f"{name}: must match {pattern.pattern}.")
        if self.kind not in KINDS:
            raise ValueError(f"kind: one of {', '.join(KINDS)}.")
        if type(self.round) is not int or not 0 <= self.round <= MOST_ROUNDS:
            raise ValueError(f"round: a whole number from 0 to {MOST_ROUNDS}.")


@dataclass(frozen=True)
class Delta:
    """What training gives: the change of the weights, and the model's weights as its template."""

    arrays: Arrays
    template: Arrays
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What evaluation gives. Scores of single samples have no place here."""

    num_examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Counts:
    """Sizes of groups of samples, e.g. samples per label."""

    values: tuple[int, ...]


@dataclass(frozen=True)
class Numbers:
    """Numbers computed over ``group`` samples, e.g. the mean of each column."""

    values: tuple[float, ...]
    group: int


@dataclass(frozen=True)
class Hashes:
    """Keyed digests of 64 hex digits, e.g. names of data and salted hashes of samples."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """Words of a vocabulary that is known without the data, e.g. from the run's configuration."""

    values: tuple[str, ...]
    vocabulary: frozenset[str]


@dataclass(frozen=True)
class Identifiers:
    """Names of samples or files."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Named statistics; none, where only the fact that something was done is told."""

    fields: Mapping[str, Counts | Numbers | Hashes | Words | Identifiers] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Excuse:
    """That there is no result, and why."""

    code: Code


Outgoing = Delta | Measured | Description | Facts | Excuse


@dataclass(frozen=True)
class Released:
    """What leaves, all of it; the fields are those of a reply.

    Attributes:
      num_examples: samples used; 0 where none were.
      metrics: quality figures as the policy allows.
      facts: statistics, or the description of the data.
      code: why there is no result; empty when there is one.
      blob: the delta's safetensors blob in the site's store.
    """

    num_examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    blob: Ref | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Released:
        """What ``to_json`` described."""
        return Released(**{**value, "blob": Ref(**value["blob"]) if value["blob"] else None})


@dataclass(frozen=True)
class Withheld:
    """What does not leave.

    Attributes:
      code: may leave as an :class:`Excuse`, if the gate lets it.
      reason: the rule in a sentence for the site's people; holds no value of the data, and stays.
    """

    code: Code
    reason: str


@dataclass(frozen=True)
class Preview:
    """What would leave.

    Attributes:
      fields: (name, bytes, what it is), also where the whole would be withheld for another reason.
      bytes: of all of it.
      changes: what the gate does to it first.
      withheld: why it would not leave now; None when it would.
    """

    fields: tuple[tuple[str, int, str], ...]
    bytes: int
    changes: tuple[str, ...]
    withheld: Withheld | None
