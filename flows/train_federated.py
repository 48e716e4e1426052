"""Federated training: audit, partition, rounds of client tasks, evaluation, a version to review."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner

from fedcore.approvals import ApprovalSettings
from fedcore.attacks.settings import AttackSettings, NoAttacks
from fedcore.audit.settings import AuditSettings
from fedcore.config import (
    AggregationSettings,
    EvaluationSettings,
    PreprocessingSettings,
    RegistrySettings,
    RoundSettings,
    RunConfig,
    SpeedSettings,
)
from fedcore.data.settings import DataSettings, Digits
from fedcore.decisions import StoppedByOperator
from fedcore.engines.engine import ClientEngine
from fedcore.engines.settings import EngineSettings, Local, Sites
from fedcore.events import Emit
from fedcore.facts import run_stopped, stage, warning
from fedcore.models.settings import MlpSettings, ModelSettings
from fedcore.participation import Everybody, ParticipationSettings
from fedcore.partition.settings import Dirichlet, PartitionSettings
from fedcore.privacy.owner import Owner
from fedcore.privacy.settings import NoPrivacy, PrivacySettings
from fedcore.questions import warnings_of
from fedcore.rounds import run_rounds
from fedcore.run import conclude
from fedcore.sites.refusals import Refused
from fedcore.start import START, New, StartSettings
from fedcore.strategies.settings import FedAvg, StrategySettings
from fedcore.training.settings import LoopSettings, TrainingSettings
from tasks import home
from tasks.aggregation import aggregate_as_task
from tasks.approval import agree_to_registration, operator_at, show_decisions
from tasks.artifacts import show_plan, show_privacy, show_report, show_round
from tasks.aside import aside
from tasks.audit import audit_clients, audit_dataset
from tasks.client_round import MappedEngine, Site
from tasks.data import has_begun, load_data, make_plan, plan_of
from tasks.preflight import preflight, require_fit
from tasks.privacy_audit import attack_run
from tasks.progress import tell_end, telling
from tasks.registration import register, result_json
from tasks.sites import (
    begin_at_sites,
    close_at_sites,
    close_sessions,
    meet_sites,
    open_sessions,
    refusing,
    rounds_at_sites,
    take_up,
)
from tasks.start import begin_from, chain_at_start, config_at_start

REHEARSED = "To train what was planned: fedloom run --fork {} --at-round 0"


def run_name() -> str:
    """Data set, strategy and seed, as the operator reads them in lists of runs."""
    parameters = dict(runtime.flow_run.parameters)
    try:
        start = START.validate_python(parameters.get("start") or New())
        flow_run_id, overrides = str(runtime.flow_run.id), parameters.get("overrides")
        config = config_at_start(start, _sections(parameters), overrides, flow_run_id)
    except (ValueError, LookupError):  # the run itself says what is wrong
        return "invalid configuration"
    data = getattr(config.data, "name", None) or config.data.kind
    where = " at sites" if isinstance(config.engine, Sites) else ""
    name = f"{data} {config.strategy.kind} seed {config.seed}{where}"
    return name if isinstance(start, New) else f"{name}, {start}"


AS_TRAINING: dict[str, Any] = {
    "flow_run_name": run_name,
    "task_runner": ThreadPoolTaskRunner(max_workers=16),
    "on_completion": [tell_end, close_sessions],
    "on_failure": [tell_end, close_sessions],
    "on_cancellation": [tell_end, close_sessions],
    "on_crashed": [tell_end, close_sessions],
}


@flow(name="train-federated", **AS_TRAINING)
def train_federated(
    version: int = 1,
    name: str = "custom",
    seed: int = 0,
    data: DataSettings = Digits(),  # noqa: B008 - frozen
    partition: PartitionSettings = Dirichlet(),  # noqa: B008
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    preprocessing: PreprocessingSettings = PreprocessingSettings(),  # noqa: B008
    model: ModelSettings = MlpSettings(),  # noqa: B008
    training: TrainingSettings = LoopSettings(),  # noqa: B008
    privacy: PrivacySettings = NoPrivacy(),  # noqa: B008
    strategy: StrategySettings = FedAvg(),  # noqa: B008
    participation: ParticipationSettings = Everybody(),  # noqa: B008
    aggregation: AggregationSettings = AggregationSettings(),  # noqa: B008
    rounds: RoundSettings = RoundSettings(),  # noqa: B008
    evaluation: EvaluationSettings = EvaluationSettings(),  # noqa: B008
    attacks: AttackSettings = NoAttacks(),  # noqa: B008
    registry: RegistrySettings = RegistrySettings(),  # noqa: B008
    approvals: ApprovalSettings = ApprovalSettings(),  # noqa: B008
    engine: EngineSettings = Local(),  # noqa: B008
    speed: SpeedSettings = SpeedSettings(),  # noqa: B008
    overrides: dict[str, Any] | None = None,
    start: StartSettings = New(),  # noqa: B008
    dry_run: bool = False,
) -> dict[str, Any] | State[Any]:
    """Trains one model over data that does not move, and leaves a version for review in MLflow.

    Args:
        version: Of the configuration's format.
        name: Short name of the experiment.
        seed: All public randomness comes from it; the same seed gives the same model.
        data: Where the samples come from.
        partition: How training samples are divided among clients.
        audit: What the data is checked for, and what is done about findings.
        preprocessing: How tables are scaled.
        model: What is trained.
        training: How each client trains in a round.
        privacy: What the updates may tell about single records.
        strategy: The federated algorithm.
        participation: Who is asked in each round.
        aggregation: How updates are weighted.
        rounds: How many rounds, and when a round stands.
        evaluation: What is measured, and which round's model is taken.
        attacks: Whether one client is attacked before registration, to test the claimed epsilon.
        registry: Where the model version goes.
        approvals: Where the run waits for a person's decision.
        engine: Where the clients are: here, or at sites of their own.
        speed: Worker processes; never changes a result.
        overrides: Single values by dotted key, applied last, for example
            {"rounds.count": 3, "training.learning_rate": 0.05}.
        start: A new run; or one that goes on with another run, or begins with rounds of it. Then
            the sections above are not used: the other run's are, changed by overrides.
        dry_run: Stop before the first round: audit, partition and plan only.
    """
    flow_run_id = str(runtime.flow_run.id)
    config = config_at_start(start, _sections(locals()), overrides, flow_run_id)
    run_id = chain_at_start(start, flow_run_id)
    with (
        telling(flow_run_id, config.rounds.count, run_id) as tell,
        refusing(run_id, tell) as refused,
        aside(show_round, get_run_logger().warning) as show,
    ):
        opening = take_up(run_id) if isinstance(config.engine, Sites) else 0
        if opening:
            open_sessions(config, run_id, opening)
        if not has_begun(run_id) and isinstance(start, New):
            _begin(config, run_id, opening, tell, refused)
        else:
            if not has_begun(run_id):
                begin_from(start, overrides, run_id)
            if opening:
                meet_sites(config, run_id, opening, refused, tell)
        plan, chain = plan_of(run_id)
        for message in warnings_of(chain):
            tell(warning(message))
        fit = preflight(run_id, config.speed.workers)
        show_plan(plan, chain)
        show_decisions(chain)
        require_fit(fit)
        if dry_run:
            return Completed(message=f"Dry run: nothing was trained. {REHEARSED.format(run_id)}")

        clients: ClientEngine
        decided = operator_at(chain)
        if opening:
            clients, decided = rounds_at_sites(config, run_id, opening, refused, decided, tell)
        else:
            places = (str(home.cache()), config.speed.workers, str(home.privacy()))
            site = Site(chain.store.url, *places)
            clients = MappedEngine(site)
        try:
            tell(stage("rounds", rounds=config.rounds.count))
            owner = Owner(home.privacy())
            for record in run_rounds(plan, chain, clients, tell, aggregate_as_task, decided, owner):
                show(plan, chain, record)

            tell(stage("evaluation"))
            result = conclude(plan_of(run_id)[0], chain, clients, tell)
            show_privacy(plan, chain)
            attack_run(plan_of(run_id)[0], chain, tell)

            if opening:
                close_at_sites(config, run_id, opening)
            tell(stage("registration"))
            agree_to_registration(plan_of(run_id)[0], chain)
        except StoppedByOperator as stopped:
            show_decisions(chain)
            tell(run_stopped("cancelled", str(stopped)))
            return Cancelled(message=str(stopped))
        registered = register(run_id, result_json(result))
        show_report(registered.report, registered.links)
        tell(stage("done"))
        return {
            "final_digest": result.final_digest,
            "round": result.chosen.round,
            **registered.version,
        }


def _begin(config: RunConfig, run_id: str, opening: int, tell: Emit, refused: Refused) -> None:
    """Audit and plan of a new run: of data that are here, or of what the sites say of theirs."""
    tell(stage("audit"))
    if opening:
        begin_at_sites(config, run_id, opening, refused, tell)
        return
    dataset = load_data(config)
    report = audit_dataset(dataset, config.audit)

    tell(stage("partition"))
    audit_clients(dataset, config.audit, config.partition, config.seed, report)
    make_plan(config, dataset, report, run_id)


def _sections(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key in RunConfig.model_fields}


if __name__ == "__main__":
    train_federated()
