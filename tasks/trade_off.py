"""The runs of a trade-off as tasks, and what the operator sees of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from fedcore.audit.report import AuditReport
from fedcore.config import RunConfig
from fedcore.data.materialise import get_dataset
from fedcore.engines.engine import ClientEngine
from fedcore.engines.in_process import InProcessEngine
from fedcore.engines.pooled import PooledEngine
from fedcore.events import Emit, EventType, Fact
from fedcore.privacy.owner import Owner
from fedcore.privacy.suggest_for import overrides_of, suggest_for
from fedcore.refs import Ref
from fedcore.report.suggestion import as_options, suggestion_notes, suggestion_table
from fedcore.report.tables import image
from fedcore.report.trade_off import plot_trade_off, trade_off_notes, trade_off_table
from fedcore.trade_off.measured import Measured, measure_point
from fedcore.trade_off.points import Point
from fedcore.trade_off.settings import GridSettings
from fedcore.trade_off.summary import summarise_grid
from tasks import home
from tasks.aside import aside
from tasks.client_round import shared_pool
from tasks.data import plan_of


@task(task_run_name="{point.name}", cache_policy=NO_CACHE, result_serializer="json")
def run_point(point: Point, data: Ref, audited: dict[str, Any], tell: Emit) -> dict[str, Any]:
    """What one run of the grid reached, as JSON."""
    store, owner = home.store(), Owner(home.privacy())
    found = measure_point(
        point,
        get_dataset(store, data),
        AuditReport.from_json(audited),
        store=store,
        engine=engine_of(point.config.speed.workers, owner),
        emit=tell,
        owner=owner,
    )
    if found.failure:
        get_run_logger().warning("%s: %s", found.name, found.failure)
    return found.to_json()


def engine_of(workers: int, owner: Owner) -> ClientEngine:
    """The worker processes of this process, or this process itself where there are none."""
    store = home.store()
    if workers == 0:
        return InProcessEngine(store, home.cache(), owner)
    return PooledEngine(store.url, home.cache(), shared_pool(workers), owner)


@contextmanager
def showing_progress(points: Sequence[Point]) -> Iterator[Callable[[Point], Emit]]:
    """Moves a progress bar with every round of every run; gives a run's ``emit``."""
    total = sum(point.config.rounds.count for point in points)
    starts, so_far = {}, 0
    for point in points:
        starts[point.name] = so_far
        so_far += point.config.rounds.count
    artifact: Any = create_progress_artifact(
        progress=0.0, key="progress", description=f"{len(points)} runs"
    )
    logger = get_run_logger()

    def show(point: Point, round: int) -> None:
        update_progress_artifact(
            artifact,
            progress=100.0 * (starts[point.name] + round) / total,
            description=f"{point.name}: round {round} of {point.config.rounds.count}",
        )

    with aside(show, logger.warning) as shown:

        def emit_of(point: Point) -> Emit:
            def tell(fact: Fact) -> None:
                if fact.type is EventType.ROUND_COMPLETED:
                    shown(point, fact.round)
                elif fact.type is EventType.NODE_ERROR:
                    logger.warning("%s, round %d: %s", point.name, fact.round, fact.message)

            return tell

        yield emit_of


def show_trade_off(found: Iterable[Measured], grid: GridSettings, delta: float) -> None:
    """The table and the picture by what was measured so far, as artifacts."""
    summary = summarise_grid(found, grid, delta)
    notes = "\n\n".join(f"> {note}" for note in trade_off_notes(summary))
    create_markdown_artifact(
        f"{trade_off_table(summary)}\n\n{notes}",
        key="trade-off",
        description="What privacy costs, by epsilon",
    )
    create_markdown_artifact(
        f"{image('What privacy costs', plot_trade_off(summary))}\n\n{notes}",
        key="trade-off-chart",
        description=f"{grid.metric} against epsilon",
    )


@task(task_run_name="suggest", cache_policy=NO_CACHE, result_serializer="json")
def show_suggestion(config: RunConfig, run_id: str) -> dict[str, Any]:
    """Batches for the configuration's own promise, as an artifact; returns the overrides.

    Args:
      run_id: a run of the grid, for the numbers of records.
    """
    held = plan_of(run_id)[0].federation.clients
    sizes = [holding.sizes["train"] for holding in held.values()]
    try:
        sampling, found = suggest_for(config, sizes)
    except ValueError as error:  # nothing to choose: the grid's results stand without it
        create_markdown_artifact(str(error), key="suggestion", description="Batch for the promise")
        return {}
    overrides = dict(overrides_of(config, found, found.recommended))
    parts = [
        suggestion_table(found, sampling.of),
        *(f"> {note}" for note in suggestion_notes(found, sampling.of)),
        f"`{as_options(overrides)}`" if overrides else "The configuration has this already.",
    ]
    create_markdown_artifact(
        "\n\n".join(parts), key="suggestion", description="Batch for the promise"
    )
    return overrides
