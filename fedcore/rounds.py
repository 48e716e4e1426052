"""One federated round after another, each committed to the run's chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedcore import absences, facts
from fedcore.aggregate import Aggregate, aggregate_round
from fedcore.chain import Chain, RoundRecord
from fedcore.digests import digest_json
from fedcore.engines.engine import ClientEngine
from fedcore.evaluation import pooled
from fedcore.events import Emit
from fedcore.execute import OtherCode
from fedcore.federation import CENTRAL
from fedcore.global_model import GlobalModel
from fedcore.jobs import ClientJob
from fedcore.numerics import code_digest
from fedcore.outcomes import ClientOutcome, ClientUpdate, Done, Evaluation, Refused
from fedcore.participation import Coin
from fedcore.plan import RunPlan
from fedcore.privacy.client_round import secret_coin
from fedcore.privacy.owner import Owner
from fedcore.privacy.private_job import events_of
from fedcore.privacy.spending import warnings_about
from fedcore.refs import Ref

Aggregation = Callable[
    [RunPlan, GlobalModel, Sequence[tuple[str, ClientUpdate]]],
    Aggregate,
]


class TooFewClients(RuntimeError):
    """Fewer clients finished than ``rounds.min_clients`` asks for."""


class EvaluationFailed(RuntimeError):
    """A model could not be measured on the central data; the message says why."""


def aggregation_in(chain: Chain, owner: Owner | None) -> Aggregation:
    """Aggregation in this process, over the chain's store."""
    return lambda plan, parent, updates: aggregate_round(chain.store, plan, parent, updates, owner)


def run_rounds(
    plan: RunPlan,
    chain: Chain,
    engine: ClientEngine,
    emit: Emit,
    aggregation: Aggregation | None = None,
    consult: Callable[[RunPlan], RunPlan] | None = None,
    owner: Owner | None = None,
) -> Iterator[RoundRecord]:
    """The rounds that the chain does not hold yet, committed one by one.

    Args:
      consult: called before each round and after the last: the plan once people have decided.
      owner: the coordinator's secret and ledger, where clients are hidden.

    Raises:
      TooFewClients: a round cannot stand.
      RunTakenOver: another process commits to the same run.
      OtherCode: rounds are left, and the run was planned by other sources than these.
    """
    parent, previous, last = plan.initial, chain.head(), None
    missed: dict[str, int] = {}
    told: list[dict[str, Any]] = []
    for last in chain.records():
        told.append(last.to_json())
        missed = absences.missed(missed, last)
        then = parent.then(last.model, last.state)
        parent = replace(plan.model_after(last.round, last.model, last.state), before=then.before)
        previous = last.digest
    rounds = plan.config.rounds.count
    aggregation = aggregation or aggregation_in(chain, owner)
    coin = secret_coin(plan.config, owner, chain.run_id)
    if parent.round < rounds:
        _require_same_code(plan, chain, parent.round)
    for number in range(parent.round + 1, rounds + 1):
        plan = consult(plan) if consult else plan
        started = time.monotonic()
        record = run_round(plan, number, parent, previous, engine, emit, aggregation, coin)
        chain.append(record)
        missed = absences.missed(missed, record)
        for fact in absences.told(record, missed):
            emit(fact)
        told.append(record.to_json())
        for sentence in warnings_about(plan.config, told):
            emit(facts.warning(sentence))
        overall, took = _overall(record.metrics), _milliseconds(started)
        emit(facts.round_completed(number, rounds=rounds, overall=overall, latency_ms=took))
        parent, previous = parent.then(record.model, record.state), record.digest
        forget_updates(plan, chain, record, last)
        last = record
        yield record
    if consult:
        consult(plan)


def run_round(
    plan: RunPlan,
    number: int,
    parent: GlobalModel,
    previous: str,
    engine: ClientEngine,
    emit: Emit,
    aggregation: Aggregation,
    coin: Coin | None = None,
) -> RoundRecord:
    """cohort -> train -> aggregate -> evaluate -> record; nothing is committed here.

    A round that drew nobody leaves the model unchanged and is a record like any other.

    Args:
      number: from 1.
      previous: digest of the record (or header) before.
      coin: who is asked, where the run's seed does not decide it.

    Raises:
      TooFewClients: somebody was drawn, but fewer than ``min_clients`` finished.
    """
    rounds, cohort = plan.config.rounds.count, plan.cohort(number, coin)
    emit(facts.round_started(number, clients=len(cohort), rounds=rounds))
    jobs = plan.train_jobs(number, parent.params, cohort)
    outcomes = _collect(engine, jobs, emit)
    combined = _combine(plan, parent, outcomes, number, aggregation, emit)
    for client, reason in combined.refused.items():
        outcomes[client] = Refused(client, outcomes[client].key, reason)
        emit(facts.client_error(number, client, "refused", reason))
    _require(plan, cohort, outcomes, number)
    metrics: dict[str, Any] = {}
    if number % plan.config.evaluation.every == 0 or number == rounds:
        metrics = evaluate_model(plan, number, combined.model.params, engine, emit)
    return RoundRecord(
        round=number,
        previous=previous,
        plan=digest_json([dict(job.settings) for job in jobs]),
        parent=parent.params,
        cohort=cohort,
        outcomes={
            client: _row(outcome, plan.config.privacy.kind == "client")
            for client, outcome in sorted(outcomes.items())
        },
        model=combined.model.params,
        state=combined.model.state,
        metrics=metrics,
        privacy=combined.told or _privacy(jobs, outcomes),
        decided=plan.decisions[-1].digest if plan.decisions else "",
        adapters=combined.adapters,
    )


def _require_same_code(plan: RunPlan, chain: Chain, done: int) -> None:
    if plan.identity["code"] != code_digest():
        raise OtherCode(
            f"run {chain.run_id} was planned by code {plan.identity['code'][:12]}, but here is "
            f"{code_digest()[:12]}, and the rounds after {done} are left. Go on with the release "
            f"that began it, or with this one in a fork, which keeps the finished rounds: "
            f"fedloom run --fork {chain.run_id} --at-round {done}"
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
            emit(facts.client_error(round, job.client, outcome.status, _why(outcome)))
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
    if keep == "all" or plan.config.privacy.kind != "none":  # what was released is kept
        return
    old = record if keep == "none" else before
    kept = {row.get("update") for row in record.outcomes.values()} if keep == "last" else set()
    for row in old.outcomes.values() if old else ():
        if "update" in row and row["update"] not in kept:
            chain.store.discard(row["update"])


def _collect(engine: ClientEngine, jobs: list[ClientJob], emit: Emit) -> dict[str, ClientOutcome]:
    outcomes: dict[str, ClientOutcome] = {}
    for job, outcome in engine.run(facts.handed_over(jobs, emit)):
        outcomes[job.client] = outcome
        for fact in facts.came_back(job, outcome):
            emit(fact)
    return outcomes


def _combine(
    plan: RunPlan,
    parent: GlobalModel,
    outcomes: dict[str, ClientOutcome],
    number: int,
    aggregation: Aggregation,
    emit: Emit,
) -> Aggregate:
    updates = [
        (client, outcome.result)
        for client, outcome in sorted(outcomes.items())
        if isinstance(outcome, Done) and isinstance(outcome.result, ClientUpdate)
    ]
    if not updates and plan.config.privacy.kind != "client":
        return Aggregate(parent.then(parent.params, parent.state), {})
    given, started = len(updates), time.monotonic()
    emit(facts.aggregation_started(number, updates=given))
    combined = aggregation(plan, parent, updates)
    took = _milliseconds(started)
    emit(facts.aggregation_completed(number, combined, updates=given, ms=took))
    return combined


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


def _row(outcome: ClientOutcome, is_hidden: bool) -> dict[str, Any]:
    """What the record says of a client; where clients are hidden, not how its training went."""
    if isinstance(outcome, Done) and isinstance(outcome.result, ClientUpdate):
        update = outcome.result
        late = {"staleness": update.staleness} if update.staleness else {}
        return {
            "status": "done",
            "job": outcome.key,
            "update": update.delta.digest,
            "bytes_up": update.delta.size,
            **({} if is_hidden else _results(update)),
            **late,
        }
    return {"status": outcome.status, "job": outcome.key, "reason": _why(outcome)}


def _results(update: ClientUpdate) -> dict[str, Any]:
    return {"num_examples": update.num_examples, "metrics": dict(update.metrics)}


def _privacy(
    jobs: Sequence[ClientJob], outcomes: Mapping[str, ClientOutcome]
) -> tuple[Mapping[str, Any], ...]:
    """The privacy events of a round's updates. What a client spent on one that did not come through
    is in its own ledger only."""
    return tuple(
        {"client": job.client, **({"group": group} if group else {}), **event.to_json()}
        for job in jobs
        if (private := job.settings["privacy"]) and isinstance(outcomes[job.client], Done)
        for group, event in events_of(private).items()
    )


def _overall(metrics: Mapping[str, Any]) -> Mapping[str, float]:
    """What a round is told by: validation where there is one, else test, else nothing."""
    overall: Mapping[str, float] = metrics.get("val", metrics.get("test", {})).get("overall", {})
    return overall


def _milliseconds(since: float) -> float:
    return round(1000 * (time.monotonic() - since), 3)


def _why(outcome: ClientOutcome) -> str:
    return getattr(outcome, "reason", outcome.status)


def _distinct(jobs: list[ClientJob]) -> list[ClientJob]:
    return list({job.key: job for job in jobs}.values())
