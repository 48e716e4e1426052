"""Whether a privacy claim stands after its audit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fedcore.attacks.one_run import OneRun


class ClaimRefuted(RuntimeError):
    """The training leaks more than it claims; nothing of it may be released."""


Word = Literal["nothing claimed", "refuted", "inconclusive", "not refuted"]


@dataclass(frozen=True)
class Verdict:
    """PASS or FAIL, and what it is worth: always of the numbers, never of a word that was kept.

    Attributes:
      claimed: epsilon at ``bound.delta``; infinite when nothing is claimed.
      bound: of the training.
      twin: of the same training, clipped alike, without noise.
    """

    claimed: float
    bound: OneRun
    twin: OneRun

    @property
    def claims_nothing(self) -> bool:
        """No epsilon is claimed, so that none can be refuted."""
        return math.isinf(self.claimed)

    @property
    def passed(self) -> bool:
        """The claim was not refuted."""
        return not self.bound.refutes(self.claimed)

    @property
    def is_conclusive(self) -> bool:
        """The same audit refutes the claim for the same training without its noise; an audit that
        cannot do that proves nothing when it passes."""
        return self.twin.refutes(self.claimed)

    @property
    def word(self) -> Word:
        """The verdict as a label."""
        if self.claims_nothing:
            return "nothing claimed"
        if not self.passed:
            return "refuted"
        return "not refuted" if self.is_conclusive else "inconclusive"

    def __str__(self) -> str:
        """One sentence for people."""
        at = f"at {self.bound.confidence:.0%} confidence"
        if self.claims_nothing:
            return f"PASS: nothing is claimed; epsilon is at least {self.bound.epsilon:.2f} {at}."
        claim = f"epsilon {self.claimed:.2f} at delta {self.bound.delta:g}"
        if not self.passed:
            return (
                f"FAIL: the training claims {claim}, but epsilon is at least "
                f"{self.bound.epsilon:.2f} {at}. Do not release it: its noise, sampling or "
                "clipping is not what is accounted for."
            )
        if not self.is_conclusive:
            return (
                f"PASS, but this audit proves nothing: it finds only {self.twin.epsilon:.2f} "
                f"without any noise, not more than the claimed {claim}. Take more canaries for a "
                "large claim, fewer for a model of few parameters, or a client with more rows."
            )
        return (
            f"PASS: the training claims {claim}; the audit finds at least "
            f"{self.bound.epsilon:.2f}, and {self.twin.epsilon:.2f} without the noise."
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value; ``claimed`` is None when nothing is."""
        claimed = None if self.claims_nothing else self.claimed
        return {**asdict(self), "claimed": claimed, "passed": self.passed, "verdict": str(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Verdict:
        """The verdict on the numbers that ``to_json`` gave; what it says of them is not read."""
        claimed = value["claimed"]
        return Verdict(
            math.inf if claimed is None else float(claimed),
            OneRun(**value["bound"]),
            OneRun(**value["twin"]),
        )
