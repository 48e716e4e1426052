"""A private job's noise, and its entry in the ledger of the data's owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.digests import digest_arrays
from fedcore.jobs import ClientJob
from fedcore.privacy.budget import Budget
from fedcore.privacy.clip_and_noise import clipped, noised
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge, group_fingerprint
from fedcore.privacy.owner import NoOwner, Owner, fixed_key
from fedcore.privacy.private_job import (
    EVERY_RECORD,
    events_of,
    example_noise,
    group_budgets,
)
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.tensors import Arrays
from fedcore.training.private.example_noise import ExampleNoise


@dataclass(frozen=True)
class Charging:
    """What makes a job private.

    Attributes:
      job: whose work it is.
      key: what batches and noise are drawn with.
      owner: of the data; None with a fixed secret, which is no privacy and costs none.
    """

    job: ClientJob
    key: bytes
    owner: Owner | None

    @property
    def noise(self) -> ExampleNoise | None:
        """Of the training itself, where records are hidden in it."""
        return example_noise(self._how) if self._how["kind"] == "example" else None

    def protected(self, delta: Arrays) -> Arrays:
        """What may leave of a change of weights: clipped and noised where all data are hidden."""
        how = self._how
        if how["kind"] != "local":
            return delta
        short = clipped(delta, how["clip_norm"])
        # Of the content too: two different updates under one noise would show their difference.
        stream = SecretStream(derived_key(self.key, "update", digest_arrays(short)))
        return noised(short, how["noise_multiplier"] * how["clip_norm"], stream)

    def require(self) -> None:
        """Asks before the work whether the data may tell so much; raises BudgetExceeded."""
        if self.owner is not None:
            ledger = self.owner.ledger
            for data, event, budgets in _bills(self.job, self.owner):
                if ledger.charged(self.job.key, data) is None:
                    ledger.require(data, event, *budgets)

    def charge(self, released: str) -> None:
        """Charges what is about to be released; it is on the disk when this returns.

        Args:
          released: digest of the bytes.

        Raises:
          BudgetExceeded: other jobs have spent it meanwhile.
          AlreadyReleased: this job released other bytes before.
        """
        if self.owner is not None:
            self.owner.ledger.charge_together(
                (Charge(self.job.key, data, event, released), budgets)
                for data, event, budgets in _bills(self.job, self.owner)
            )

    @property
    def _how(self) -> Mapping[str, Any]:
        how: Mapping[str, Any] = self.job.settings["privacy"]
        return how


def charging(job: ClientJob, owner: Owner | None) -> Charging | None:
    """How a job is to be done privately; None when it is not.

    Raises:
      NoOwner: it is to be private, and nobody's secret is here.
    """
    private = job.settings["privacy"]
    if private is None:
        return None
    if private["secret"] == "fixed":
        return Charging(job, fixed_key(job.seed, "private job", job.key), None)
    if owner is None:
        raise NoOwner(
            f"client {job.client}: privacy.secret=owner needs an engine that knows where the "
            "owner's secret and ledger are: give it owner=Owner(folder)."
        )
    return Charging(job, owner.key("private job", job.key), owner)


def _bills(
    job: ClientJob, owner: Owner
) -> Iterator[tuple[str, SampledGaussian, tuple[Budget, ...]]]:
    """What a job costs: fingerprint of the data or of a group of persons in them, event, budgets.

    The owner's own bound counts, and only where it has none that of the run. A group's budget
    counts beside it.
    """
    private, data = job.settings["privacy"], owner.data or job.data.digest
    given, of_groups = job.data_budget, group_budgets(private)
    budgets = () if given is None else (Budget(given["epsilon"], given["delta"]),)
    budgets = budgets if owner.budget is None else (owner.budget,)
    for group, event in events_of(private).items():
        if group == EVERY_RECORD:
            yield data, event, budgets
        else:
            yield group_fingerprint(data, group), event, (*budgets, of_groups[group])
