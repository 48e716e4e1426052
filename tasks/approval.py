"""An operator's decision through Prefect's console: the run suspends, Resume brings the answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import runtime
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause, PrefectHTTPStatusError
from prefect.input import RunInput, create_flow_run_input, read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from prefect.logging import get_run_logger
from prefect.states import Suspended
from prefect.utilities.engine import propose_state_sync
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from fedcore.chain import Chain
from fedcore.decisions import (
    MAX_WHO,
    MAX_WHY,
    Answer,
    AnswerRefused,
    ApprovalNeeded,
    Question,
    Verdict,
    check_answer,
    decision_rows,
)
from fedcore.plan import RunPlan
from fedcore.questions import consult, consult_before_registration
from fedcore.report.tables import markdown_table

MOST_LISTED = 200
"""With more clients the form takes their ids as text."""


def ask_operator(plan: RunPlan, question: Question) -> Answer:
    """The operator's answer, given with Resume or ``fedloom approve``.

    Without one the flow run suspends here, for as long as it takes, and its process ends. An answer
    that cannot be carried out is asked for again, with the reason.

    Raises:
      ApprovalNeeded: the flow run has no deployment, so that nothing could start it again.
    """
    if not runtime.deployment.id:
        raise ApprovalNeeded(
            f"{question.asks} A flow run without a deployment cannot wait for an answer: start it "
            "with fedloom run or from a deployment, or change the approvals section."
        )
    refusal = ""
    for attempt in itertools.count(1):
        # One key for each time it is asked: Prefect keeps an answer under its key for good.
        key = f"{question.point}-{attempt}"
        given = read_flow_run_input(keys(key)["response"])
        if given is None:
            _suspend(question, key, refusal)
            continue
        try:
            answer = answer_from(given)
            check_answer(question, answer)
        except AnswerRefused as error:
            refusal = str(error)
        else:
            return answer


def operator_at(chain: Chain) -> Callable[[RunPlan], RunPlan]:
    """What ``run_rounds`` consults: the questions between two rounds, and their answers shown."""

    def decided(plan: RunPlan) -> RunPlan:
        after = consult(plan, chain, ask_operator)
        if after is not plan:
            show_decisions(chain)
        return after

    return decided


def agree_to_registration(plan: RunPlan, chain: Chain) -> None:
    """Goes on when the operator agreed to a model version, where the config asks for that.

    Raises:
      StoppedByOperator: there will be none.
    """
    if consult_before_registration(plan, chain, ask_operator) is not plan:
        show_decisions(chain)


def keys(key: str) -> dict[str, str]:
    """Where Prefect keeps schema, description and response of what a suspended run asks."""
    return {**keyset_from_base_key(f"suspended-{key}")}


def answer_from(given: Any) -> Answer:
    """The answer in what was sent with Resume.

    Raises:
      AnswerRefused: it is none.
    """
    try:
        verdict, clients = Verdict(given["decision"]), tuple(map(str, given.get("clients") or ()))
        return Answer(verdict, str(given["who"]), str(given["why"]), clients)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnswerRefused(
            f"{given!r} is no decision: it needs decision, who and why; and clients to drop some."
        ) from error


def form(question: Question, refusal: str = "") -> type[RunInput]:
    """What the Resume dialog asks for."""
    verdicts = tuple(verdict.value for verdict in question.verdicts)
    fields: dict[str, Any] = {
        "decision": (Literal[verdicts], _field("What happens now.")),
    }
    if Verdict.DROP in question.verdicts:
        one = Literal[question.clients] if len(question.clients) <= MOST_LISTED else str
        about = (
            f"Only with '{Verdict.DROP.value}': who is asked no more. At least {question.need} of "
            f"{len(question.clients)} must remain."
        )
        fields["clients"] = (list[one], _field(about, default=[]))  # type: ignore[valid-type]
    for name, most, about in (
        ("who", MAX_WHO, "Your name; kept with the run."),
        ("why", MAX_WHY, "Your reason; kept with the run."),
    ):
        fields[name] = (str, _field(about, pattern=r"\S", max_length=most))
    for position, (_, field) in enumerate(fields.values()):
        field.json_schema_extra = {"position": position}  # PostgreSQL does not keep their order
    asked = create_model("Decision", __base__=RunInput, **fields)
    asked._description = explanation(question, refusal)
    return asked


def _field(about: str, **rules: Any) -> FieldInfo:
    field: FieldInfo = Field(description=about, **rules)
    return field


def explanation(question: Question, refusal: str = "") -> str:
    """What is asked, in markdown, with what was wrong with the last answer."""
    parts = [f"**Not taken:** {refusal}"] if refusal else []
    parts.append(question.asks)
    if Verdict.DROP in question.verdicts:
        parts.append(f"*{Verdict.DROP.value}* leaves the named clients out of all later rounds.")
    parts.append("*stop* ends the run as Cancelled; what is finished is kept.")
    return "\n\n".join(parts)


def show_question(question: Question, refusal: str, run_id: str) -> None:
    """On the run's page: what is asked and how to answer."""
    how = (
        "Answer with **Resume** on this page, or in a shell:\n\n```\n"
        f"fedloom approve {run_id} --who 'A. Smith' --why 'I looked at it'\n```"
    )
    text = f"# A decision is needed\n\n{explanation(question, refusal)}\n\n{how}"
    create_markdown_artifact(text, key="decision-needed", description=question.asks)


def show_decisions(chain: Chain) -> None:
    """On the run's page: who decided what, when and why."""
    decisions = [one.to_json() for one in chain.decisions()]
    if decisions:
        table = markdown_table(
            ["after", "decision", "who", "when", "why"], decision_rows(decisions)
        )
        create_markdown_artifact(
            f"# Decisions\n\n{table}", key="decisions", description="Who decided what, and why"
        )


def _suspend(question: Question, key: str, refusal: str) -> None:
    """Prefect's ``suspend_flow_run`` in another order, and with a message for the page.

    The form is kept before the run suspends: a process that dies between the two leaves a run that
    can be answered. Returns only when Prefect says that this pause has fired already.
    """
    flow_run_id = UUID(str(runtime.flow_run.id))
    show_question(question, refusal, str(flow_run_id))
    get_run_logger().warning(_message(question, refusal))
    asked, keyset = form(question, refusal), keys(key)
    _keep(asked.save, keyset)
    _keep(create_flow_run_input, f"suspended-{key}-question", asdict(question))
    state: State[Any] = Suspended(pause_key=key, message=_message(question, refusal))
    state.state_details.run_input_keyset = keyset
    with get_client(sync_client=True) as client:
        state = propose_state_sync(client, state, flow_run_id=flow_run_id)
    if state.is_paused():
        mark_flow_run_suspension_requested(flow_run_id, state)
        raise Pause(state=state)
    if not state.is_running():
        raise RuntimeError(f"the run cannot wait for an answer: it is {state.name} now.")


def _keep(save: Any, *args: Any) -> None:
    """Leaves what an earlier try has kept."""
    try:
        save(*args)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.CONFLICT:
            raise


def _message(question: Question, refusal: str) -> str:
    told = f"Not taken: {refusal} " if refusal else ""
    return f"{told}{question.asks} Press Resume to answer, or: fedloom approve."
