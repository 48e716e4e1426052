"""Attacks that a run asks for and cannot have, whom they take, what epsilon leaves out."""

from types import SimpleNamespace

import pytest

from fedcore.attacks.client import choose_client
from fedcore.config import ConfigError, make_config
from fedcore.config_and_data import check_settings
from fedcore.privacy.checks import uncovered
from fedcore.task import Task, TaskKind

AUDIT = {"kind": "audit"}


def check(attacks=AUDIT, task=TaskKind.BINARY, kind="table", **sections):
    config = make_config({"attacks": attacks, **sections})
    labels = ("weight",) if task is TaskKind.REGRESSION else ("no", "yes")
    check_settings(config, "toy", Task(task, labels), ("a", "b", "c"), ("train", "val"), kind)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        (
            {"privacy": {"kind": "client"}, "evaluation": {"clients": False},
             "aggregation": {"weighting": "uniform"}},
            r"privacy\.kind=client adds its noise to the sum of all clients.* Set attacks\.kind to",
        ),
        (
            {"privacy": {"kind": "example", "groups": {"kind": "clip", "others": 2.0}}},
            r"privacy\.groups promises each group .* the epsilon of one group",
        ),
        ({"engine": {"kind": "sites"}}, r"engine\.kind=sites leaves them at the sites.* public"),
        (
            {"registry": {"register_model": False}},
            r"for the model version that registry\.register_model=false leaves out; set one",
        ),
    ],
)  # fmt: skip
def test_attacks_that_would_say_nothing_are_refused(sections, why):
    assert make_config(sections).attacks.kind == "none"
    with pytest.raises(ConfigError, match=why):
        make_config({**sections, "attacks": AUDIT})


def test_attacks_that_the_data_cannot_bear_are_refused_before_training():
    check()
    check({**AUDIT, "client": "b"})
    with pytest.raises(ValueError, match="client='z' is none of this run's clients: a, b, c"):
        check({**AUDIT, "client": "z"})
    with pytest.raises(ValueError, match=r"client='b' is none of .*: a, c\."):
        check({**AUDIT, "client": "b"}, rounds={"exclude_clients": ["b"]})
    with pytest.raises(ValueError, match="one label for each record; toy is a regression task"):
        check(task=TaskKind.REGRESSION)
    with pytest.raises(ValueError, match="images or rows of a table as canaries; toy has texts"):
        check(kind="text")
    check({"kind": "none"}, task=TaskKind.REGRESSION, kind="text")


def test_the_smallest_client_that_is_asked_is_attacked():
    sizes = {"a": 30, "b": 10, "c": 20}
    held = {name: SimpleNamespace(sizes={"train": size}) for name, size in sizes.items()}
    plan = SimpleNamespace(federation=SimpleNamespace(clients=held), asked=lambda round: ("a", "c"))
    assert choose_client(plan, "") == "c"
    assert choose_client(plan, "a") == "a"


def test_attacks_change_no_result_and_epsilon_does_not_cover_them():
    private = {"privacy": {"kind": "example", "epsilon": 8.0}}
    with_attacks = make_config({**private, "attacks": AUDIT})
    assert with_attacks.digest == make_config(private).digest
    said = "Epsilon does not cover what the attacks show of the attacked client's records"
    assert any(one.startswith(said) for one in uncovered(with_attacks))
    assert not any(one.startswith(said) for one in uncovered(make_config(private)))
