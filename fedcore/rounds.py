"""One federated round after another, each committed to the run's chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fedcore.aggregate import Aggregate, aggregate
from fedcore.chain import Chain, RoundRecord
from fedcore.digests import digest_json
from fedcore.engines.engine import ClientEngine
from fedcore.evaluation import pooled
from fedcore.events import Emit, Event
from fedcore.federation import CENTRAL
from fedcore.global_model import GlobalModel
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation, Refused
from fedcore.plan import RunPlan
from fedcore.refs import Ref

Aggregation = Callable[
    [RunPlan, GlobalModel, Sequence[tuple[str, ClientUpdate]]],
    Aggregate,
]


class TooFewClients(RuntimeError):
    """Fewer clients finished than ``rounds.min_clients`` asks for."""


class EvaluationFailed(RuntimeError):
    """A model could not be measured on the central data; the message says why."""


def aggregation_in(chain: Chain) -> Aggregation:
    """Aggregation in this process, over the chain's store."""
    return lambda plan, parent, updates: aggregate(
        chain.store,
        plan.algorithm,
        parent,
        updates,
        weighting=plan.config.aggregation.weighting,
    )


def run_rounds(
    plan: RunPlan,
    chain: Chain,
    engine: ClientEngine,
    emit: Emit,
    aggregation: Aggregation | None = None,
) -> Iterator[RoundRecord]:
    """The rounds that the chain does not hold yet, committed one by one.

    Raises:
      TooFewClients: a round cannot stand.
      RunTakenOver: another process commits to the same run.
    """
    parent, previous, last = plan.initial, chain.head(), None
    for last in chain.records():
        parent, previous = GlobalModel(last.round, last.model, last.state), last.digest
    for number in range(parent.round + 1, plan.config.rounds.count + 1):
        record = run_round(
            plan, number, parent, previous, engine, emit, aggregation or aggregation_in(chain)
        )
        chain.append(record)
        parent, previous = GlobalModel(number, record.model, record.state), record.digest
        forget_updates(plan, chain, record, last)
        last = record
        yield record


def run_round(
    plan: RunPlan,
    number: int,
    parent: GlobalModel,
    previous: str,
    engine: ClientEngine,
    emit: Emit,
    aggregation: Aggregation,
) -> RoundRecord:
    """cohort -> train -> aggregate -> evaluate -> record; nothing is committed here.

    A round that drew nobody leaves the model unchanged and is a record like any other.

    Args:
      number: from 1.
      previous: digest of the record (or header) before.

    Raises:
      TooFewClients: somebody was drawn, but fewer than ``min_clients`` finished.
    """
    started, rounds = time.monotonic(), plan.config.rounds.count
    cohort = plan.cohort(number)
    emit(Event("round_started", number, rounds, message=f"{len(cohort)} clients asked"))
    jobs = plan.train_jobs(number, parent.params, cohort)
    outcomes = _collect(engine, jobs, number, rounds, emit)
    combined = _combine(plan, parent, outcomes, number, aggregation)
    for client, reason in combined.refused.items():
        outcomes[client] = Refused(client, outcomes[client].key, reason)
        emit(Event("node_error", number, rounds, client, message=reason))
    _require(plan, cohort, outcomes, number)
    emit(Event("aggregation_completed", number, rounds))
    metrics: dict[str, Any] = {}
    if number % plan.config.evaluation.every == 0 or number == rounds:
        metrics = evaluate_model(plan, number, combined.model.params, engine, emit)
    overall = metrics.get("val", metrics.get("test", {"overall": {}}))["overall"]
    seconds = round(time.monotonic() - started, 3)
    emit(Event("round_completed", number, rounds, metrics=overall, seconds=seconds))
    return RoundRecord(
        round=number,
        previous=previous,
        plan=digest_json([dict(job.settings) for job in jobs]),
        parent=parent.params,
        cohort=cohort,
        outcomes={client: _row(outcome) for client, outcome in sorted(outcomes.items())},
        model=combined.model.params,
        state=combined.model.state,
        metrics=metrics,
    )


def evaluate_model(
    plan: RunPlan, round: int, params: Ref, engine: ClientEngine, emit: Emit
) -> dict[str, Any]:
    """Split -> overall metrics (central data, else the mean over clients) and each client's own.

    A client whose evaluation fails is left out of ``clients``, with an event; without central data
    and without any client's answer the split has no overall metrics.

    Raises:
      EvaluationFailed: the central data could not be evaluated.
    """
    jobs = {
        (split, job.client): job
        for split in plan.config.evaluation.splits
        for job in plan.evaluate_jobs(round, params, split)
    }
    answers = {}
    for job, outcome in engine.run(_distinct(list(jobs.values()))):
        if isinstance(outcome, Done) and isinstance(outcome.result, Evaluation):
            answers[job.key] = outcome.result
        elif job.client == CENTRAL:
            raise EvaluationFailed(f"the model of round {round} was not evaluated: {_why(outcome)}")
        else:
            emit(Event("node_error", round, client=job.client, message=_why(outcome)))
    metrics: dict[str, Any] = {}
    for (split, client), job in jobs.items():
        found = answers.get(job.key)
        place = metrics.setdefault(split, {"overall": {}, "clients": {}})
        if found is None:
            continue
        row = {**found.metrics, "num_examples": found.num_examples}
        if client == CENTRAL:
            place["overall"] = row
        else:
            place["clients"][client] = row
    for place in metrics.values():
        if not place["overall"] and place["clients"]:
            place["overall"] = pooled(place["clients"])
    return metrics


def forget_updates(
    plan: RunPlan, chain: Chain, record: RoundRecord, before: RoundRecord | None
) -> None:
    """Drops the deltas that ``rounds.keep_updates`` does not keep; they are only a cache."""
    keep = plan.config.rounds.keep_updates
    if keep == "all":
        return
    old = record if keep == "none" else before
    kept = {row.get("update") for row in record.outcomes.values()} if keep == "last" else set()
    for row in old.outcomes.values() if old else ():
        if "update" in row and row["update"] not in kept:
            chain.store.discard(row["update"])


def _collect(
    engine: ClientEngine, jobs: list[ClientJob], number: int, rounds: int, emit: Emit
) -> dict[str, ClientOutcome]:
    outcomes: dict[str, ClientOutcome] = {}
    for job, outcome in engine.run(jobs):
        outcomes[job.client] = outcome
        if isinstance(outcome, Done):
            emit(
                Event(
                    "client_train_completed",
                    number,
                    rounds,
                    job.client,
                    outcome.result.metrics,
                    "from the memo" if outcome.reused else "",
                    outcome.seconds,
                )
            )
        else:
            emit(Event("node_error", number, rounds, job.client, message=outcome.reason))
    return outcomes


def _combine(
    plan: RunPlan,
    parent: GlobalModel,
    outcomes: dict[str, ClientOutcome],
    number: int,
    aggregation: Aggregation,
) -> Aggregate:
    updates = [
        (client, outcome.result)
        for client, outcome in sorted(outcomes.items())
        if isinstance(outcome, Done) and isinstance(outcome.result, ClientUpdate)
    ]
    if not updates:
        return Aggregate(GlobalModel(number, parent.params, parent.state), {})
    return aggregation(plan, parent, updates)


def _require(
    plan: RunPlan, cohort: Sequence[str], outcomes: dict[str, ClientOutcome], number: int
) -> None:
    done = sum(isinstance(outcome, Done) for outcome in outcomes.values())
    need = plan.config.rounds.min_clients
    if cohort and done < need:
        reasons = "; ".join(
            f"{client}: {outcome.reason}"
            for client, outcome in sorted(outcomes.items())
            if not isinstance(outcome, Done)
        )
        raise TooFewClients(
            f"round {number}: {done} of {len(cohort)} clients finished; rounds.min_clients is "
            f"{need}. {reasons}"
        )


def _row(outcome: ClientOutcome) -> dict[str, Any]:
    if isinstance(outcome, Done) and isinstance(outcome.result, ClientUpdate):
        update = outcome.result
        return {
            "status": "done",
            "job": outcome.key,
            "update": update.delta.digest,
            "bytes_up": update.delta.size,
            "num_examples": update.num_examples,
            "metrics": dict(update.metrics),
        }
    return {"status": outcome.status, "job": outcome.key, "reason": _why(outcome)}


def _why(outcome: ClientOutcome) -> str:
    return getattr(outcome, "reason", outcome.status)


def _distinct(jobs: list[ClientJob]) -> list[ClientJob]:
    return list({job.key: job for job in jobs}.values())
