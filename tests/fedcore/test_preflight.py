"""Numbers that can be worked out by hand, and what is said about them."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.config import make_config
from fedcore.models.settings import MlpSettings
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.preflight import (
    JOB_BYTES,
    JOB_SECONDS,
    ROUND_SECONDS,
    RUN_BYTES,
    WORKER_BYTES,
    Preflight,
    PreflightFailed,
    Room,
    check,
    disk_need,
    look_around,
    memory_need,
    require_room,
    time_need,
)
from fedcore.store import Store
from fedcore.timing import NOTHING, Timing, time_batch

PLENTY = Room(disk=10**12, memory=10**12, cores=2)
TIMING = Timing(call=0.0, step=0.1, predict=0.001, features=0.0)


@pytest.fixture
def plan_of(tmp_path):
    store = Store(tmp_path / "store")

    def plan(**sections):
        config = make_config({"partition": {"kind": "iid", "clients": 4}, **sections})
        dataset = config.data.load(None)
        return prepare(config, dataset, make_partition(dataset, config.partition, 0, ()), store)

    plan.store = store
    return plan


@pytest.mark.parametrize(("keeps", "rounds_kept"), [("all", 10), ("last", 2), ("none", 1)])
def test_disk_is_models_and_kept_updates(plan_of, keeps, rounds_kept):
    plan = plan_of(rounds={"count": 10, "keep_updates": keeps})
    model = plan.initial.params.size
    records = 10 * (model + 4 * JOB_BYTES)
    assert disk_need(plan, 10) == records + rounds_kept * 4 * model + 2 * model


def test_server_state_and_a_smaller_cohort_count(plan_of):
    plain = plan_of(participation={"kind": "fixed", "cohort_size": 1})
    momentum = plan_of(strategy={"kind": "fedadam"})
    assert momentum.initial.state.size > 0
    assert disk_need(plain, 3) < disk_need(plan_of(), 3) < disk_need(momentum, 3)


def test_memory_grows_with_workers_and_with_the_batch(plan_of):
    plan = plan_of()
    none, one, two, three = (memory_need(plan, workers) for workers in range(4))
    assert three - two == two - one > WORKER_BYTES
    assert two > RUN_BYTES + 2 * WORKER_BYTES > none > RUN_BYTES
    larger = replace(plan, config=make_config({"training": {"kind": "loop", "batch_size": 4096}}))
    assert memory_need(larger, 2) > two


def test_time_is_steps_and_samples_over_workers(plan_of):
    plan = plan_of(
        training={"kind": "loop", "steps": 7}, evaluation={"splits": ["test"], "clients": False}
    )
    a_round, once = time_need(plan, TIMING, 1)
    central = plan.federation.central_sizes["test"]
    assert a_round == pytest.approx(4 * (JOB_SECONDS + 0.7) + 0.001 * central + ROUND_SECONDS)
    assert once == 0
    assert time_need(plan, TIMING, 2)[0] - ROUND_SECONDS == pytest.approx(
        (a_round - ROUND_SECONDS) / 2
    )
    rare = replace(
        plan,
        config=make_config({"training": {"kind": "loop", "steps": 7}, "evaluation": {"every": 5}}),
    )
    assert (
        time_need(rare, TIMING, 1)[0]
        < time_need(plan_of(training={"kind": "loop", "steps": 7}), TIMING, 1)[0]
    )


def test_finished_rounds_are_not_asked_for_again(plan_of):
    plan = plan_of(rounds={"count": 10})
    all_of_it, rest = (check(plan, PLENTY, TIMING, done=done) for done in (0, 9))
    assert rest.rounds == 1 and rest.disk < all_of_it.disk
    assert rest.seconds == pytest.approx(all_of_it.seconds_a_round, abs=0.1)
    assert check(plan, PLENTY, NOTHING, done=10).rounds == 0


def test_too_little_of_either_stops_the_run_with_numbers_and_a_way_out(plan_of):
    plan = plan_of(rounds={"count": 10})
    found = check(plan, replace(PLENTY, disk=1000, memory=2000), TIMING)
    with pytest.raises(
        PreflightFailed, match=r"10 rounds need about .* of disk space; 1.0 kB"
    ) as no:
        require_room(found)
    said = str(no.value)
    assert "rounds.keep_updates (now all)" in said and "FEDLOOM_HOME on a larger disk" in said
    assert "of memory; 2.0 kB are free" in said and "lower speed.workers=2" in said
    require_room(check(plan, PLENTY, TIMING))


def test_little_left_over_and_too_many_workers_are_warnings(plan_of):
    plan = plan_of(speed={"workers": 3})
    need = check(plan, PLENTY, TIMING)
    room = Room(disk=int(need.disk * 1.1), memory=int(need.memory * 1.1), cores=2)
    found = check(plan, room, TIMING)
    assert not found.problems
    assert len(found.warnings) == 3
    assert "speed.workers=3 is more than the 2 cores" in found.warnings[-1]


def test_it_is_kept_as_json_and_told_in_words(plan_of):
    found = check(plan_of(), replace(PLENTY, disk=1), TIMING)
    assert Preflight.from_json({**found.to_json(), "timing": TIMING.to_json()}) == found
    assert found.facts()["time"].startswith("about ") and "free" in found.facts()["disk"]


def test_what_there_is_where_a_folder_will_be(tmp_path):
    room = look_around(tmp_path / "not" / "yet")
    assert room.disk > 0 and room.memory > 0 and room.cores >= 1


def test_the_timed_batch_changes_nothing(plan_of):
    plan = plan_of(model=MlpSettings(hidden=(8,)).model_dump(mode="json"))
    before = sorted(plan_of.store.blobs()), np.random.get_state()[1].tolist()
    timing = time_batch(plan, plan_of.store)
    assert (sorted(plan_of.store.blobs()), np.random.get_state()[1].tolist()) == before
    assert timing.step > 0 and timing.predict > 0 and timing.features == timing.call == 0
