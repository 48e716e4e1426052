"""What all attacks on one client of a run found, as it is kept with the run and its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.attacks.verdict import Verdict
from fedcore.refs import Ref

CLAIM, MEMBERSHIP, RECONSTRUCTION = ATTACKS = ("claim", "membership", "reconstruction")


@dataclass(frozen=True)
class Found:
    """What the attacks found.

    Attributes:
      client: who was attacked.
      verdict: on the claimed epsilon.
      auc: of membership inference, 0.5 tells nothing; None when it was left out.
      cosine: of the best reconstruction with its row, 1 is the row; None when none was tried.
      picture: blob of a PNG of the reconstructions, or None.
      json: everything, by attack.
    """

    client: str
    verdict: Verdict
    auc: float | None
    cosine: float | None
    picture: Ref | None
    json: Mapping[str, Any]

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Found:
        """What was found, from the JSON of each attack by its name in ``ATTACKS``."""
        members, rows = value.get(MEMBERSHIP), value.get(RECONSTRUCTION)
        picture = rows["picture"] if rows else None
        return Found(
            value[CLAIM]["client"],
            Verdict.from_json(value[CLAIM]),
            members["auc"]["estimate"] if members else None,
            max(one["cosine"] for one in rows["rows"]) if rows else None,
            Ref(**picture) if picture else None,
            value,
        )

    def rows(self) -> list[list[Any]]:
        """(attack, what it found) for a table."""
        verdict, bound = self.verdict, self.verdict.bound
        at_least = f"at least {bound.epsilon:.2f} at {bound.confidence:.0%} confidence"
        told = [
            ["claimed epsilon", "none" if verdict.claims_nothing else f"{verdict.claimed:.2f}"],
            ["one run with canaries", f"epsilon {at_least}"],
            ["the same without noise", f"epsilon at least {verdict.twin.epsilon:.2f}"],
        ]
        if self.auc is not None:
            told.append(["membership inference", f"AUC {self.auc:.3f}; 0.5 tells nothing"])
        if self.cosine is not None:
            told.append(["reconstruction of a row", f"cosine {self.cosine:.3f}; 1 is the row"])
        return told


def found_by(kept: Callable[[str], Any]) -> Found | None:
    """What was found, of what is kept under each attack's name; None when nothing was attacked.

    Args:
      kept: name -> JSON or None, e.g. of a run's annotations.
    """
    value = {name: one for name in ATTACKS if (one := kept(note(name))) is not None}
    return Found.from_json(value) if CLAIM in value else None


def note(attack: str) -> str:
    """Name of the annotation beside a run's chain that keeps an attack's JSON.

    >>> note("membership")
    'attack-membership'
    """
    return f"attack-{attack}"
