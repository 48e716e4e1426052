"""What a person is asked between two rounds, and what follows from the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from fedcore.approvals import QualityBound
from fedcore.attacks.found import found_by
from fedcore.audit.report import AuditReport
from fedcore.chain import Chain, RoundRecord
from fedcore.decisions import (
    Answer,
    ApprovalNeeded,
    Decision,
    Question,
    StoppedByOperator,
    Verdict,
    check_answer,
)
from fedcore.plan import RunPlan
from fedcore.privacy.spending import spending

Ask = Callable[[RunPlan, Question], Answer]
AUDIT, REGISTRATION = "audit", "registration"


def ask_nobody(plan: RunPlan, question: Question) -> Answer:
    """Where nobody can be asked.

    Raises:
      ApprovalNeeded: always.
    """
    raise ApprovalNeeded(
        f"{question.asks} Nobody can be asked here. Run it where somebody can answer (on a "
        "terminal, or as a run of a deployment), or change the approvals section."
    )


def consult(plan: RunPlan, chain: Chain, ask: Ask) -> RunPlan:
    """The plan after every question that is open between the last round and the next.

    What was decided before is not asked again.

    Raises:
      StoppedByOperator: a person decided, now or earlier, that the run ends.
      AnswerRefused: an answer that cannot be carried out.
    """
    _stop(chain, plan.decisions)
    approvals = plan.config.approvals
    if not approvals.quality and not approvals.epsilon and approvals.audit == "never":
        return plan
    records = tuple(chain.records())
    for question in between_rounds(plan, records, warnings_of(chain)):
        plan = _settle(plan, chain, question, ask)
    return plan


def consult_before_registration(plan: RunPlan, chain: Chain, ask: Ask) -> RunPlan:
    """The plan once a person agreed to a model version, where the config asks for that.

    Raises:
      StoppedByOperator: there will be none.
    """
    if plan.config.approvals.registration:
        last = plan.config.rounds.count
        found = found_by(chain.annotation)
        told = f"{found.verdict} " if found else ""
        asks = f"All {last} rounds are done. {told}Register the model version?"
        plan = _settle(plan, chain, Question(REGISTRATION, last, asks), ask)
    return plan


def between_rounds(
    plan: RunPlan, records: Sequence[RoundRecord], warnings: Sequence[str]
) -> Iterator[Question]:
    """What the config asks about after the last of these records.

    Args:
      records: all committed rounds.
      warnings: what audit and plan had to say.
    """
    last = records[-1].round if records else 0
    approvals, rounds = plan.config.approvals, plan.config.rounds
    cohort = getattr(plan.config.participation, "cohort_size", 1)
    need = max(rounds.min_clients, cohort)
    clients = plan.asked(last + 1) if last < rounds.count else ()
    if not records and (
        approvals.audit == "always" or (approvals.audit == "warnings" and warnings)
    ):
        told = " ".join(warnings) if warnings else "The audit has no warnings."
        yield Question(AUDIT, 0, f"{told} Begin training?", clients, need)
    for bound in approvals.quality if records else ():
        if (value := newly_crossed(bound, records)) is not None:
            asks = (
                f"After round {last} of {rounds.count} {bound.metric} on validation data is "
                f"{value:.4g}, {bound.when} {bound.bound:g}. Go on?"
            )
            yield Question(_point(bound, last), last, asks, clients, need)
    if approvals.epsilon and last < rounds.count:
        for level, now, then in crossed_next(plan, records, approvals.epsilon):
            asks = (
                f"Round {last + 1} of {rounds.count} would take what the run has told from epsilon "
                f"{now:.3g} to {then:.3g}, above {level:g}. Go on?"
            )
            yield Question(f"epsilon-{level:g}", last, asks, clients, need)


def crossed_next(
    plan: RunPlan, records: Sequence[RoundRecord], levels: Sequence[float]
) -> Iterator[tuple[float, float, float]]:
    """(level, epsilon now, epsilon after one more round) of each level that the next round would
    be the first to pass; nothing without privacy, or before the first round."""
    spent = spending(plan.config, [record.to_json() for record in records])
    if spent is None or not spent.spent:
        return
    now, then = spent.overall.value, spent.overall_next.value
    for level in levels:
        if now <= level < then:
            yield level, now, then


def newly_crossed(bound: QualityBound, records: Sequence[RoundRecord]) -> float | None:
    """The last round's score when it is across the bound and the one measured before was not."""
    measured = [
        (record.round, value)
        for record in records
        if record.round >= bound.from_round
        and (value := record.metrics.get("val", {}).get("overall", {}).get(bound.metric))
        is not None
        and not math.isnan(value)
    ]
    if not measured or measured[-1][0] != records[-1].round:
        return None
    *earlier, (_, now) = measured
    was_crossed = bool(earlier) and bound.is_crossed(earlier[-1][1])
    return now if bound.is_crossed(now) and not was_crossed else None


def warnings_of(chain: Chain) -> tuple[str, ...]:
    """What the audits of data and partition and the plan had to say, in words."""
    told: list[str] = []
    for name in ("audit", "partition-audit"):
        if (report := chain.annotation(name)) is not None:
            told += [finding.message for finding in AuditReport.from_json(report).findings]
    return (*told, *(chain.annotation("warnings") or ()))


def _settle(plan: RunPlan, chain: Chain, question: Question, ask: Ask) -> RunPlan:
    if any(one.point == question.point for one in plan.decisions):
        return plan
    answer = ask(plan, question)
    check_answer(question, answer)
    decision = chain.decide(question, answer)
    _stop(chain, (decision,))
    return plan.after((*plan.decisions, decision))


def _stop(chain: Chain, decisions: Sequence[Decision]) -> None:
    for one in decisions:
        if one.verdict is Verdict.STOP:
            raise StoppedByOperator(
                f"Stopped by {one.who} at {one.when}: {one.why.rstrip('.')}. What is finished is "
                "kept; to go on from there: "
                f"fedloom run --fork {chain.run_id} --at-round {one.round}"
            )


def _point(bound: QualityBound, round: int) -> str:
    text = f"round-{round}-{bound.metric}-{bound.when}-{bound.bound:g}"
    return "".join(c if c.isalnum() else "-" for c in text)
