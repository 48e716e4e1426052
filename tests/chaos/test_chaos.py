"""Eight seeded kills: each run ends as if nothing had happened. `make chaos` does many more."""

from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import stack_plans
from benchmarks.chaos.core import POINTS, core_trial
from benchmarks.chaos.stack import STAGES, TARGETS, WITHOUT_CLIENTS, StackTrial, stack_trial
from deployments.registration import ensure_registered

KILLS_INSIDE = 6


@pytest.mark.slow
def test_a_run_that_is_killed_inside_fedcore_ends_as_an_undisturbed_one(tmp_path):
    kills, seed = 0, 0
    while kills < KILLS_INSIDE:
        trial = core_trial(seed, KILLS_INSIDE - kills, tmp_path / str(seed))
        assert trial.problems == [] and trial.rounds == (3, 3) and len(trial.trained) == 9
        kills, seed = kills + len(trial.kills), seed + 1


@pytest.mark.stack
@pytest.mark.slow
def test_a_run_whose_processes_are_killed_ends_as_an_undisturbed_one(stack):
    ensure_registered(stack)
    trial = stack_trial(stack, 0, [("client task", "flow"), ("aggregation", "worker")])
    flow, worker = trial.kills
    assert flow.target == "flow" and flow.processes > 0 and flow.seconds is not None
    assert worker.target == "worker" and worker.processes > 0 and worker.seconds is not None
    assert trial.problems == [] and trial.rounds[0] == trial.rounds[1]


def test_a_trial_that_went_wrong_says_so():
    bad = StackTrial(0, state="Completed", digest="a", expected="b", versions=2)
    bad.trained = {"round 1 of client-000": 2}
    assert bad.problems == [
        "another final digest",
        "2 model versions",
        "round 1 of client-000 was finished twice",
    ]


def test_the_full_trial_kills_every_process_in_every_stage():
    plans = stack_plans(len(STAGES) * len(TARGETS), seed=0)
    never = {(stage, "client") for stage in WITHOUT_CLIENTS}
    every = {(stage, target) for stage in STAGES for target in TARGETS}
    assert {pair for plan in plans for pair in plan} == every - never
    order = list(STAGES)
    for plan in plans:
        assert [order.index(stage) for stage, _ in plan] == sorted(
            {order.index(s) for s, _ in plan}
        )


def test_the_points_are_where_the_names_say():
    sources = Path(__file__).parents[2]
    for module, name, _ in POINTS.values():
        if module != "os":
            text = (sources / f"{module.replace('.', '/')}.py").read_text()
            assert name.rsplit(".", 1)[-1] in text
