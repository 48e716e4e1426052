"""A run of a grid and what it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedcore.audit.report import AuditReport
from fedcore.data.dataset import Dataset
from fedcore.digests import digest_json
from fedcore.engines.engine import ClientEngine
from fedcore.events import Emit, silent
from fedcore.numerics import code_digest
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.owner import Owner
from fedcore.privacy.spending import spending
from fedcore.rounds import EvaluationFailed, TooFewClients
from fedcore.run import begin, begun, go_on
from fedcore.store import Store
from fedcore.trade_off.points import Point


@dataclass(frozen=True)
class Measured:
    """What a finished run of a grid reached.

    Attributes:
      name: of the run.
      epsilon: that it might tell, or None: of the reference.
      learning_rate: that was tried, or None.
      seed: of the run.
      scores: split -> metric -> value, of the model that was taken.
      rdp, prv: epsilon that was told, of one record or client, by both bounds; None without
        privacy.
      is_private: whether the noise came from an owner's own secret.
      events: client id -> what was released of its data, as JSON; equal ones in a row as one.
      run_id: the chain that has it all.
      final_digest: of the model.
      failure: why there are no scores, e.g. that training diverged; else empty.
    """

    name: str
    epsilon: float | None
    learning_rate: float | None
    seed: int
    scores: Mapping[str, Mapping[str, float]]
    rdp: float | None
    prv: float | None
    is_private: bool
    events: Mapping[str, Sequence[Mapping[str, Any]]]
    run_id: str
    final_digest: str
    failure: str = ""

    @property
    def noise_multipliers(self) -> tuple[float, ...]:
        """Of all clients and rounds, rising."""
        found = {one["noise_multiplier"] for events in self.events.values() for one in events}
        return tuple(sorted(found))

    def score(self, split: str, metric: str) -> float:
        """One score.

        Raises:
          ValueError: it was not measured.
        """
        scores = self.scores.get(split, {})
        if metric not in scores:
            raise ValueError(
                f"grid.metric={metric!r} was not measured on {split} data; measured: "
                f"{', '.join(sorted(scores)) or 'nothing'}. Take another metric or split."
            )
        return scores[metric]

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Measured:
        """What ``to_json`` described."""
        return Measured(**value)


def measure_point(
    point: Point,
    dataset: Dataset,
    report: AuditReport,
    *,
    store: Store,
    engine: ClientEngine,
    emit: Emit = silent,
    owner: Owner | None = None,
) -> Measured:
    """Trains a point to its end, or reads what it reached where that was done before.

    Its chain is named after all that decides it, so that the same point in another grid, or after
    a kill, goes on where it was.

    A run in which training diverged, or too few clients finished, is a result too: its ``failure``
    says so, and the rest of the grid goes on.

    Args:
      report: of the audit that the data passed.
      owner: of all data, and the coordinator's.
    """
    config = point.config
    decides = ["trade-off", config.digest, dataset.fingerprint, code_digest()]
    run_id = f"trade-off-{digest_json(decides)[:32]}"
    if store.holds_name(f"runs/{run_id}/header.json"):
        plan, chain = begun(store, run_id)
    else:
        plan, chain = begin(config, dataset, report, store, run_id)
    failure, digest, scores = "", "", {}
    try:
        result = go_on(plan, chain, engine, emit, owner=owner)
        digest = result.final_digest
        scores = {split: _scores(measured) for split, measured in result.evaluation.items()}
    except (EvaluationFailed, TooFewClients) as error:
        failure = str(error)
    told = spending(config, [record.to_json() for record in chain.records()])
    is_promised = told is not None and point.epsilon is not None
    return Measured(
        name=point.name,
        epsilon=point.epsilon,
        learning_rate=point.learning_rate,
        seed=config.seed,
        scores=scores,
        rdp=told.overall.rdp if told and is_promised else None,
        prv=told.overall.prv if told and is_promised else None,
        is_private=told is not None and told.is_private,
        events={client: _in_a_row(each) for client, each in told.events.items()} if told else {},
        run_id=run_id,
        final_digest=digest,
        failure=failure,
    )


def _scores(measured: Mapping[str, Any]) -> dict[str, float]:
    overall = measured.get("overall") or {}
    return {name: float(value) for name, value in overall.items() if name != "num_examples"}


def _in_a_row(events: Sequence[SampledGaussian]) -> list[dict[str, Any]]:
    """A run's rounds mostly release the same: one event with all their steps."""
    found: list[dict[str, Any]] = []
    for event in events:
        one = event.to_json()
        if found and {**found[-1], "steps": 0} == {**one, "steps": 0}:
            found[-1]["steps"] += one["steps"]
        else:
            found.append(one)
    return found
