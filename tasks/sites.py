"""A run over sites: who is invited, their sessions, and what they say before the first round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prefect import Flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_run_logger
from prefect.states import Cancelling

from fedcore.audit.audit import require_passed
from fedcore.audit.report import AuditReport
from fedcore.chain import Chain
from fedcore.config import RunConfig
from fedcore.engines.settings import Sites
from fedcore.events import Emit
from fedcore.facts import waiting
from fedcore.plan import RunPlan
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.refusals import Refusals, Refused, untold
from fedcore.sites.run import Invitation, begin_over_sites, invite, meet_again
from fedcore.store import Store
from tasks import home
from tasks.approval import show_decisions
from tasks.audit import show_audit
from tasks.data import plan_of
from tasks.shown_sites import ShownSites

Consult = Callable[[RunPlan], RunPlan]
POOL, SESSION = "sites", "site-session"
ENTRYPOINT = "flows.site_session.site_session"
UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]


def take_up(run_id: str) -> int:
    """How often the run was taken up, this time included; kept beside its chain."""
    chain = Chain(home.store(), run_id)
    opening = int(chain.annotation("opening") or 0) + 1
    chain.annotate("opening", opening)
    return opening


@contextmanager
def refusing(run_id: str, tell: Emit) -> Iterator[Refused]:
    """Keeps and tells what the trust boundary refuses in a run."""
    log = Coordinator(home.coordinator()).log
    refusals = Refusals(log, run_id, tell, get_run_logger().warning)
    try:
        yield refusals.refused
    finally:
        refusals.close()


def invitation_of(
    config: RunConfig, run_id: str, opening: int, refused: Refused = untold
) -> Invitation:
    """The sites of a run over sites; raises UnknownSite."""
    assert isinstance(config.engine, Sites), config.engine.kind
    mailbox = Mailbox(Store(config.engine.mailbox or str(home.home() / "mailbox")))
    return invite(config, Coordinator(home.coordinator()), mailbox, run_id, opening, refused)


@task(task_run_name="open-sessions", cache_policy=NO_CACHE, persist_result=False)
def open_sessions(config: RunConfig, run_id: str, opening: int) -> None:
    """One flow run of ``site-session`` on each invited site's own queue, below this run's."""
    with get_client(sync_client=True) as client:
        for site in invitation_of(config, run_id, opening).lanes:
            deployment = ensure_session_deployment(client, site)
            run_deployment(
                deployment,
                parameters={"run": run_id, "opening": opening},
                flow_run_name=f"{site} in {run_id[:8]}",
                tags=[_tag(runtime.flow_run.id)],
                idempotency_key=f"{run_id} {opening} {site}",
                timeout=0,  # does not wait for its end
            )


def ensure_session_deployment(client: SyncPrefectClient, site: str) -> Any:
    """The deployment by which a site is asked to attend a run; returns its id.

    The site's worker takes two parameters from it and nothing else. The pool is not the stack's
    own, whose worker must never take what is meant for a site.
    """
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="fedloom-site"))
    return client.create_deployment(
        flow_id=client.create_flow_from_name(SESSION),
        name=site,
        description=f"{site} attends a run. Opened by training runs over sites.",
        tags=["fedloom", "site"],
        entrypoint=ENTRYPOINT,
        work_pool_name=POOL,
        work_queue_name=site,
        pull_steps=[],
    )


def saying(tell: Emit) -> Callable[[str], None]:
    """Says what sites are asked, and who is waited for: in the log, and to who follows the run."""
    log = get_run_logger().info

    def say(message: str) -> None:
        log(message)
        tell(waiting(message))

    return say


@task(task_run_name="audit-and-plan", cache_policy=NO_CACHE, persist_result=False)
def begin_at_sites(
    config: RunConfig, run_id: str, opening: int, refused: Refused, tell: Emit
) -> None:
    """The sites describe their data, the audit of all decides, the data are laid out."""

    def audited(report: AuditReport) -> AuditReport:
        show_audit(report, "data-audit")
        return require_passed(report)

    invitation, say = invitation_of(config, run_id, opening, refused), saying(tell)
    begin_over_sites(config, invitation, home.store(), run_id, say, audited)


@task(task_run_name="meet-sites", cache_policy=NO_CACHE, persist_result=False)
def meet_sites(config: RunConfig, run_id: str, opening: int, refused: Refused, tell: Emit) -> None:
    """The sites of a run that goes on lay out their data again."""
    plan, chain = plan_of(run_id)
    invitation = invitation_of(config, run_id, opening, refused)
    meet_again(invitation, plan, chain, saying(tell))


def rounds_at_sites(
    config: RunConfig,
    run_id: str,
    opening: int,
    refused: Refused,
    decided: Consult,
    tell: Emit,
) -> tuple[ShownSites, Consult]:
    """What does client jobs at the sites of the run's plan, and shows them; and what ``run_rounds``
    consults: people as before, then the sites that were not there at the beginning."""
    plan, chain = plan_of(run_id)
    invitation, say = invitation_of(config, run_id, opening, refused), saying(tell)
    engine = invitation.engine(plan, chain.store, say)
    joining = invitation.joining(chain, engine, say)

    def consulted(plan: RunPlan) -> RunPlan:
        before = decided(plan)
        after = joining.look(before)
        if after is not before:
            show_decisions(chain)
        return after

    return ShownSites(engine), consulted if invitation.settings.join_later else decided


def close_at_sites(config: RunConfig, run_id: str, opening: int) -> None:
    """Tells the sites that the run is over, and takes away what lies in the mailbox."""
    invitation_of(config, run_id, opening).close()


def close_sessions(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of training runs: sessions that are still open when a run has ended are ended."""
    with get_client(sync_client=True) as client:
        sessions = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[_tag(flow_run.id)]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY)),
            )
        )
        for session in sessions:
            client.set_flow_run_state(session.id, Cancelling(message="The run is over."))


def _tag(flow_run_id: Any) -> str:
    return f"flow-run:{flow_run_id}"
