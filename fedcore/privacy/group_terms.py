"""What a client's job says of each group of persons: how its records take part, and its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.group_settings import GroupsByClip, GroupsBySampling
from fedcore.privacy.personal import personal_clips, personal_rates


@dataclass(frozen=True)
class GroupTerms:
    """One group's part in a client's training.

    Attributes:
      sampling_rate: probability that one of its records enters a step.
      clip_norm: bound of the norm of one of its records' gradients.
      noise_multiplier: the noise over that bound, which its event has.
      epsilon: budget of its records, over all runs.
      delta: chance that the promise fails.
    """

    sampling_rate: float
    clip_norm: float
    noise_multiplier: float
    epsilon: float
    delta: float

    def event(self, steps: int) -> SampledGaussian:
        """What the accountant counts for the group."""
        return SampledGaussian(self.sampling_rate, self.noise_multiplier, steps)


@dataclass(frozen=True)
class Mechanism:
    """What a client's group sizes decide of its training.

    Attributes:
      noise_multiplier: the noise, the same for all, over the average clip norm.
      groups: group -> its terms.
    """

    noise_multiplier: float
    groups: Mapping[str, GroupTerms]

    def to_json(self) -> dict[str, Any]:
        """As it stands in a job's private settings."""
        groups = {group: asdict(terms) for group, terms in self.groups.items()}
        return {"noise_multiplier": self.noise_multiplier, "groups": groups}


def mechanism(
    settings: GroupsBySampling | GroupsByClip,
    sizes: Mapping[str, int],
    *,
    delta: float,
    clip_norm: float,
    sample_rate: float,
    steps: int,
) -> Mechanism:
    """The noise and the groups' terms at which the groups' budgets last for ``steps`` sums.

    Args:
      sizes: group -> training records of the client, all of them.
      delta: of each group's promise.
      clip_norm: average over the records.
      sample_rate: average over the records.
      steps: of the whole run.

    Raises:
      ValueError: the records are in no group, or one without a budget.
    """
    budgets = {group: settings.budget_of(group) for group in sorted(sizes)}
    lacking = sorted(group for group, epsilon in budgets.items() if epsilon is None)
    if lacking or not sizes:
        raise ValueError(
            f"privacy.groups.kind={settings.kind!r}: groups {lacking or dict(sizes)} have no "
            "budget; each record needs one. Name the groups under epsilons, or set others."
        )
    items = tuple((group, epsilon, sizes[group]) for group, epsilon in budgets.items() if epsilon)
    return _mechanism(settings.kind, items, delta, clip_norm, sample_rate, steps)


@lru_cache(maxsize=1024)  # each round asks again, and the search takes its time
def _mechanism(
    kind: str,
    items: tuple[tuple[str, float, int], ...],
    delta: float,
    clip_norm: float,
    sample_rate: float,
    steps: int,
) -> Mechanism:
    epsilons = {group: epsilon for group, epsilon, _ in items}
    sizes = {group: size for group, _, size in items}
    if kind == "sampling":
        found = personal_rates(epsilons, sizes, delta, sample_rate, steps)
        noise = found.noise_multiplier
        shares = {group: (rate, clip_norm, noise) for group, rate in found.sampling_rates.items()}
    else:
        scaled = personal_clips(epsilons, sizes, delta, sample_rate, steps, clip_norm)
        noise = scaled.noise_multiplier
        shares = {
            group: (sample_rate, scaled.clip_norms[group], multiplier)
            for group, multiplier in scaled.noise_multipliers.items()
        }
    terms = {
        group: GroupTerms(*share, epsilon=epsilons[group], delta=delta)
        for group, share in shares.items()
    }
    return Mechanism(noise, terms)
