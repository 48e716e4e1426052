"""A whole run without an orchestrator: audit, partition, rounds, choice of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedcore import facts
from fedcore.audit.audit import audit, audit_partition, require_passed
from fedcore.audit.report import AuditReport
from fedcore.chain import Chain, RoundRecord
from fedcore.config import RunConfig
from fedcore.data.dataset import Dataset
from fedcore.digests import digest_arrays
from fedcore.engines.engine import ClientEngine
from fedcore.evaluation import HIGHER_IS_BETTER
from fedcore.events import Emit, silent
from fedcore.federation import CENTRAL
from fedcore.outcomes import Done, Evaluation
from fedcore.partition.make import make_partition
from fedcore.partition.manifest import to_parquet
from fedcore.partition.picture import partition_picture
from fedcore.plan import RunPlan, prepare
from fedcore.privacy.owner import Owner
from fedcore.questions import Ask, ask_nobody, consult
from fedcore.refs import Ref
from fedcore.rounds import EvaluationFailed, evaluate_model, run_rounds
from fedcore.store import Store


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves.

    Attributes:
      run_id: the chain's name.
      records: all committed rounds.
      chosen: the record whose model is taken.
      final_digest: SHA-256 of the chosen model's sorted tensors.
      evaluation: split -> overall and per-client metrics of the chosen model.
      scores: blob of the chosen model's ``scores`` and ``targets`` on central test data, or None.
    """

    run_id: str
    records: tuple[RoundRecord, ...]
    chosen: RoundRecord
    final_digest: str
    evaluation: dict[str, Any]
    scores: Ref | None


def run_federated(
    config: RunConfig,
    *,
    store: Store,
    engine: ClientEngine,
    run_id: str,
    data_folder: Path | None = None,
    emit: Emit = silent,
    ask: Ask = ask_nobody,
    owner: Owner | None = None,
) -> tuple[RunPlan, RunResult]:
    """Runs a configuration from data to chosen model, here and now.

    Calling it again with the same ``run_id`` goes on where the chain ends.

    Args:
      ask: answers what ``config.approvals`` asks.
      owner: the coordinator's secret and ledger, where the run hides clients.

    Raises:
      DataAuditFailed: a finding stops the run before any training.
      ApprovalNeeded: somebody has to decide, and ``ask`` can ask nobody.
      StoppedByOperator: somebody decided that the run ends.
    """
    with _told(emit, store, run_id):
        emit(facts.stage("audit"))
        dataset = config.data.load(data_folder)
        report = require_passed(audit(dataset, config.audit))
        emit(facts.stage("partition"))
        plan, chain = begin(config, dataset, report, store, run_id)
        for message in (*(finding.message for finding in report.findings), *plan.warnings):
            emit(facts.warning(message))
        return plan, _to_the_end(plan, chain, engine, emit, ask, owner)


def go_on(
    plan: RunPlan,
    chain: Chain,
    engine: ClientEngine,
    emit: Emit = silent,
    ask: Ask = ask_nobody,
    owner: Owner | None = None,
) -> RunResult:
    """The rest of a run that has begun: one that was stopped, or a fork.

    Raises:
      OtherCode: it was planned by other sources than these.
      ApprovalNeeded, StoppedByOperator: as ``run_federated``.
    """
    with _told(emit, chain.store, chain.run_id):
        return _to_the_end(plan, chain, engine, emit, ask, owner)


def _to_the_end(
    plan: RunPlan,
    chain: Chain,
    engine: ClientEngine,
    emit: Emit,
    ask: Ask,
    owner: Owner | None,
) -> RunResult:
    emit(facts.stage("rounds", rounds=plan.config.rounds.count))
    asking = partial(consult, chain=chain, ask=ask)
    for _ in run_rounds(plan, chain, engine, emit, consult=asking, owner=owner):
        pass
    emit(facts.stage("evaluation"))
    return conclude(plan, chain, engine, emit)


@contextmanager
def _told(emit: Emit, store: Store, run_id: str) -> Iterator[None]:
    """Tells that the run begins, or goes on, and how it ended."""
    if store.holds_name(f"runs/{run_id}/header.json"):
        emit(facts.run_resumed(len(list(Chain(store, run_id).records()))))
    else:
        emit(facts.run_requested())
    try:
        yield
    except Exception as error:
        emit(facts.failure(error))
        emit(facts.run_stopped("failed", str(error)))
        raise
    except BaseException:
        emit(facts.run_stopped("cancelled"))
        raise
    emit(facts.stage("done"))
    emit(facts.run_stopped("completed"))


def begin(
    config: RunConfig, dataset: Dataset, report: AuditReport, store: Store, run_id: str
) -> tuple[RunPlan, Chain]:
    """Divides an audited data set, checks that, and begins the run's chain.

    Audit, warnings, partition manifest and its picture are kept beside the chain. The header comes
    last: a run that has begun has everything.

    Raises:
      DataAuditFailed: the partition is wrong.
      ValueError: settings that cannot work on this data.
      ChainBroken: the run began with another plan.
    """
    partition = make_partition(dataset, config.partition, config.seed, report.exclusions)
    shares = require_passed(audit_partition(dataset, partition, config.audit, report.exclusions))
    plan = prepare(config, dataset, partition, store)
    chain = Chain(store, run_id)
    manifest = store.put(to_parquet(partition), "manifest")
    picture = store.put(partition_picture(dataset, partition), "picture")
    chain.annotate("audit", report.to_json())
    chain.annotate("partition-audit", shares.to_json())
    chain.annotate("warnings", list(plan.warnings))
    chain.annotate("partition", {"manifest": vars(manifest), "picture": vars(picture)})
    chain.begin(plan.header())
    return plan.after(chain.decisions()), chain


def begun(store: Store, run_id: str) -> tuple[RunPlan, Chain]:
    """The plan, with what people decided, and the chain of a run that has begun.

    Raises:
      LookupError: it has not.
      ChainBroken: its decisions were altered.
    """
    chain = Chain(store, run_id)
    return RunPlan.from_header(chain.header()).after(chain.decisions()), chain


def conclude(plan: RunPlan, chain: Chain, engine: ClientEngine, emit: Emit = silent) -> RunResult:
    """The chosen round's model, measured, with its scores on the central test data."""
    records = tuple(chain.records())
    chosen = choose_round(records, plan.config.evaluation.choose)
    scores = None
    for job in plan.evaluate_jobs(chosen.round, chosen.model, "test", keep_scores=True):
        if job.client == CENTRAL:
            for _, outcome in engine.run([job]):
                if not isinstance(outcome, Done) or not isinstance(outcome.result, Evaluation):
                    raise EvaluationFailed(f"no test scores of the chosen model: {outcome}")
                scores = outcome.result.scores
    return RunResult(
        chain.run_id,
        records,
        chosen,
        digest_arrays(chain.store.get_arrays(chosen.model)),
        dict(chosen.metrics) or evaluate_model(plan, chosen.round, chosen.model, engine, emit),
        scores,
    )


def choose_round(records: Sequence[RoundRecord], choose: str) -> RoundRecord:
    """The last record, or the first of the best on validation by a metric; never by the test split.

    Raises:
      ValueError: no round has that metric on validation data.
    """
    if choose == "last":
        return records[-1]
    measured = [
        (record.metrics["val"]["overall"][choose], record)
        for record in records
        if choose in record.metrics.get("val", {}).get("overall", {})
    ]
    if not measured:
        raise ValueError(
            f"evaluation.choose={choose!r} needs validation data with that metric in some round; "
            "take choose: last, or a data set with a val split in evaluation.splits."
        )
    sign = 1 if HIGHER_IS_BETTER[choose] else -1
    return max(measured, key=lambda pair: (sign * pair[0], -pair[1].round))[1]
