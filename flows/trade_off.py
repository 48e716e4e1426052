"""What privacy costs: one configuration at several epsilons, over seeds, against its reference."""

from __future__ import annotations

from typing import Any

from prefect import flow

from fedcore.audit.settings import AuditSettings
from fedcore.config import (
    AggregationSettings,
    EvaluationSettings,
    PreprocessingSettings,
    RoundSettings,
    RunConfig,
    SpeedSettings,
    make_config,
)
from fedcore.data.settings import DataSettings, Digits
from fedcore.models.settings import MlpSettings, ModelSettings
from fedcore.participation import Everybody, ParticipationSettings
from fedcore.partition.settings import Dirichlet, PartitionSettings
from fedcore.privacy.settings import ExampleLevel, PrivacySettings
from fedcore.strategies.settings import FedAvg, StrategySettings
from fedcore.trade_off.measured import Measured
from fedcore.trade_off.points import points_of
from fedcore.trade_off.settings import GridSettings
from fedcore.training.settings import LoopSettings, TrainingSettings
from tasks.audit import audit_dataset
from tasks.data import data_of_run, load_data
from tasks.trade_off import run_point, show_suggestion, show_trade_off, showing_progress


def run_name() -> str:
    """After the data set, as the operator reads it in lists of runs."""
    return f"trade-off of {data_of_run()}"


@flow(name="trade-off", flow_run_name=run_name)
def trade_off(
    data: DataSettings = Digits(),  # noqa: B008 - frozen
    partition: PartitionSettings = Dirichlet(),  # noqa: B008
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    preprocessing: PreprocessingSettings = PreprocessingSettings(),  # noqa: B008
    model: ModelSettings = MlpSettings(),  # noqa: B008
    training: TrainingSettings = LoopSettings(),  # noqa: B008
    privacy: PrivacySettings = ExampleLevel(),  # noqa: B008
    strategy: StrategySettings = FedAvg(),  # noqa: B008
    participation: ParticipationSettings = Everybody(),  # noqa: B008
    aggregation: AggregationSettings = AggregationSettings(),  # noqa: B008
    rounds: RoundSettings = RoundSettings(),  # noqa: B008
    evaluation: EvaluationSettings = EvaluationSettings(),  # noqa: B008
    speed: SpeedSettings = SpeedSettings(),  # noqa: B008
    grid: GridSettings = GridSettings(),  # noqa: B008
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Draws a score against epsilon: trains a configuration at each, with each seed.

    Trains one model after another, in worker processes; registers none. A run that was done before,
    here or in another grid, is not done again. Returns what each run reached as JSON.

    Args:
        data: Where the samples come from.
        partition: How training samples are divided among clients.
        audit: What the data is checked for, and what is done about findings.
        preprocessing: How tables are scaled.
        model: What is trained.
        training: How each client trains in a round.
        privacy: What is hidden; its epsilon is that of the grid.
        strategy: The federated algorithm.
        participation: Who is asked in each round.
        aggregation: How updates are weighted.
        rounds: How many rounds.
        evaluation: What is measured, and which round's model is taken.
        speed: Worker processes; never changes a result.
        grid: Which epsilons are tried, how often, and what is looked at.
        overrides: Single values by dotted key, applied last, for example
            {"rounds.count": 3, "training.learning_rate": 0.05}.
    """
    given = locals()
    sections = {name: given[name] for name in RunConfig.model_fields if name in given}
    config = make_config(sections, overrides, source="the flow's parameters")
    points = points_of(config, grid)
    dataset = load_data(config)
    audited = audit_dataset(dataset, config.audit)
    found: list[Measured] = []
    with showing_progress(points) as emit_of:
        for point in points:
            reached = run_point(point, dataset, audited, emit_of(point))
            found.append(Measured.from_json(reached))
            show_trade_off(found, grid, config.privacy.delta)
    show_suggestion(config, found[0].run_id)
    if all(one.failure for one in found):
        raise RuntimeError(f"no run of the grid has a score; the first: {found[0].failure}")
    return {"runs": [one.to_json() for one in found]}


if __name__ == "__main__":
    trade_off()
