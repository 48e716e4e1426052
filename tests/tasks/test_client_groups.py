"""How many jobs one task takes: single clients first, then seconds of work, never all at once."""

import math
from types import SimpleNamespace

import pytest

from fedcore.aggregation import GROUP
from fedcore.jobs import JobKind
from fedcore.outcomes import ClientUpdate, Done
from fedcore.refs import Ref
from tasks.client_round import TASK_SECONDS, _Groups

TRAIN = SimpleNamespace(kind=JobKind.TRAIN)


def done(seconds):
    return Done("c", "k", ClientUpdate("b", Ref("d", 1, "delta"), 1, {}), seconds=seconds)


def test_the_first_clients_are_alone_and_evaluations_are_one_task():
    groups = _Groups()
    groups.learn(done(0.001))
    assert groups.size(TRAIN) == 1
    assert groups.size(SimpleNamespace(kind=JobKind.EVALUATE)) == math.inf


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.0, GROUP), (0.001, GROUP), (0.5, 4), (1.9, 1), (60.0, 1)]
)
def test_later_tasks_last_about_as_long_as_they_may(seconds, size):
    groups = _Groups(taken=GROUP)
    groups.learn(done(seconds))
    assert groups.size(TRAIN) == size
    assert size == 1 or size * seconds <= TASK_SECONDS
