"""Whether a privacy claim stands after its audit."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fedcore.attacks.one_run import OneRun


class ClaimRefuted(RuntimeError):
    """The training leaks more than it claims; nothing of it may be released."""


@dataclass(frozen=True)
class Verdict:
    """PASS or FAIL, and what it is worth.

    Attributes:
      passed: the claim was not refuted.
      is_conclusive: the same audit refutes the claim for the same training without its noise; an
        audit that cannot do that proves nothing when it passes.
      claimed: epsilon at ``bound.delta``; infinite when nothing is claimed.
      bound: of the training.
      twin: of the same training, clipped alike, without noise.
    """

    passed: bool
    is_conclusive: bool
    claimed: float
    bound: OneRun
    twin: OneRun

    def __str__(self) -> str:
        """One sentence for people."""
        at = f"at {self.bound.confidence:.0%} confidence"
        if math.isinf(self.claimed):
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
                f"without any noise, not more than the claimed {claim}. Take more canaries, or a "
                "client with more rows."
            )
        return (
            f"PASS: the training claims {claim}; the audit finds at least "
            f"{self.bound.epsilon:.2f}, and {self.twin.epsilon:.2f} without the noise."
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value; ``claimed`` is None when nothing is."""
        claimed = None if math.isinf(self.claimed) else self.claimed
        return {**asdict(self), "claimed": claimed, "verdict": str(self)}


def judge(claimed: float, bound: OneRun, twin: OneRun) -> Verdict:
    """The verdict on a claim.

    Args:
      claimed: epsilon at the audits' delta; infinite without a claim.
      bound: of the training.
      twin: of the same training without noise.
    """
    return Verdict(not bound.refutes(claimed), twin.refutes(claimed), claimed, bound, twin)
