"""The trade-off flow against a Prefect server: runs, artifacts, and going on after a failure."""

import pytest

from fedcore.models.settings import LogisticSettings
from fedcore.partition.settings import Iid
from fedcore.privacy.settings import ExampleLevel
from fedcore.trade_off.settings import GridSettings, WithoutPrivacy
from fedcore.training.settings import LoopSettings

pytestmark = pytest.mark.stack

CHOSEN = {
    "partition": Iid(clients=2),
    "model": LogisticSettings(),
    "training": LoopSettings(batch_size=64, steps=2, learning_rate=0.5),
    "privacy": ExampleLevel(),
    "grid": GridSettings(
        epsilons=(2.0, 8.0), seeds=(0, 1), reference=WithoutPrivacy(learning_rates=(0.1,))
    ),
    "overrides": {"rounds.count": 2, "speed.workers": 0},
}


def artifacts():
    """The newest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_artifacts(), key=lambda one: one.created)
    return {one.key: one for one in found if one.key}


def task_names(flow_run_id):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.name for one in client.read_task_runs(flow_run_filter=only)}


def test_a_trade_off_is_drawn_and_goes_on_after_a_failure(on_stack, monkeypatch):
    from fedcore import run
    from flows.trade_off import trade_off
    from tasks import trade_off as tasks

    reached, measure = [], tasks.measure_point

    def fails_at_the_last(point, *args, **options):
        if len(reached) == 5:
            raise OSError("the machine went down")
        reached.append(measure(point, *args, **options))
        return reached[-1]

    monkeypatch.setattr(tasks, "measure_point", fails_at_the_last)
    state = trade_off(**CHOSEN, return_state=True)
    assert state.is_failed() and "the machine went down" in state.message
    shown = artifacts()
    assert "| 2 |" in shown["trade-off"].data  # what was reached is there

    begun, rounds = [], run.run_rounds

    def counted(plan, chain, *args, **options):
        for record in rounds(plan, chain, *args, **options):
            begun.append(plan.config.seed)
            yield record

    monkeypatch.setattr(tasks, "measure_point", measure)
    monkeypatch.setattr(run, "run_rounds", counted)
    found = trade_off(**CHOSEN)["runs"]
    assert begun == [1, 1]  # the two rounds of the last run, and nothing else
    assert [one["final_digest"] for one in found[:5]] == [one.final_digest for one in reached]
    assert [one["name"] for one in found] == [
        f"{name}/seed-{seed}"
        for seed in (0, 1)
        for name in ("reference/rate-0.1", "epsilon-2", "epsilon-8")
    ]
    told = {one["epsilon"]: one["prv"] for one in found}
    assert told[None] is None and 1.9 < told[2.0] <= 2 and 7.8 < told[8.0] <= 8

    shown = artifacts()
    table = shown["trade-off"].data
    assert "told (RDP)" in table and "| reference |" in table and "2 seeds (0, 1)" in table
    assert "data:image/png;base64," in shown["trade-off-chart"].data
    assert "recommended" in shown["suggestion"].data
    assert shown["progress"].data == 100
    assert task_names(shown["trade-off"].flow_run_id) >= {
        *(one["name"] for one in found),
        *("load-data", "audit", "suggest"),
    }
