"""What the rules cannot work with is refused with the reason; who trains which rank."""

import pytest

from fedcore.adapters.choice import adapter_of, resolved, rule_of
from fedcore.adapters.rule import Part
from fedcore.adapters.settings import Automatic, FrozenA, GivenRanks, Mean, RanksBySize, Svd
from fedcore.config import ConfigError, make_config

ADAPTER = {"rank": 8, "alpha": 16.0}
CLIENT = {
    "privacy": {"kind": "client", "noise_multiplier": 1.0},
    "evaluation": {"clients": False},
}
LATE = {"engine": {"kind": "sites", "late": "stale"}, "partition": {"kind": "by_owner"}}


def config_of(kind="automatic", ranks=None, adapter=ADAPTER, **sections):
    aggregation = {"weighting": "uniform", "adapters": {"kind": kind}}
    aggregation |= {"client_ranks": ranks} if ranks else {}
    model = {"kind": "plugin", "name": "any", "options": {"adapter": adapter} if adapter else {}}
    return make_config({"model": model, "aggregation": aggregation, **sections})


REFUSED = [
    ("svd", {"strategy": {"kind": "fedadam"}}, "would not be a step of their product"),
    ("stacking", {"strategy": {"kind": "fedavg", "server_learning_rate": 0.5}}, "rate=0.5 on each"),
    ("residual", {"strategy": {"kind": "fedavgm"}}, "take fedavg|Take fedavg"),
    ("alternating", {"strategy": {"kind": "fedyogi"}}, "moments of strategy.kind=fedyogi"),
    ("stacking", CLIENT, "clip_norm bounds a client's factors, not their product"),
    ("residual", CLIENT, "not their product"),
    ("svd", CLIENT, "not their product"),
    ("mean", {**CLIENT, "ranks": {"kind": "by_size"}}, "more than clip_norm"),
    ("mean", {"ranks": {"kind": "given", "ranks": {"b": 9}}}, r"\{'b': 9\} is above model.adapter"),
    ("svd", {"adapter": {**ADAPTER, "dora": True}}, "model.adapter.dora=true scales each weight"),
    ("svd", {"adapter": None}, "kind=svd has nothing to combine"),
    (
        "automatic",
        {"adapter": None, "ranks": {"kind": "by_size"}},
        "the model of kind=plugin has no",
    ),
]


@pytest.mark.parametrize(("kind", "sections", "why"), REFUSED)
def test_what_cannot_work_is_refused_with_the_way_out(kind, sections, why):
    with pytest.raises(ConfigError, match=why):
        config_of(kind, **sections)


@pytest.mark.parametrize("kind", ["stacking", "residual", "svd", "alternating"])
def test_late_factors_are_refused_where_they_belong_to_another_basis(kind):
    with pytest.raises(ConfigError, match="factors of a late update belong"):
        config_of(kind, **LATE)
    assert config_of("frozen_a", **LATE)


@pytest.mark.parametrize("kind", ["mean", "frozen_a", "alternating", "automatic"])
def test_sums_of_factors_can_hide_clients(kind):
    assert config_of(kind, **CLIENT)


@pytest.mark.parametrize("kind", ["mean", "frozen_a", "alternating", "stacking", "residual", "svd"])
def test_unequal_ranks_work_with_every_rule(kind):
    assert config_of(kind, {"kind": "given", "ranks": {"a": 2}})


def test_privacy_freezes_a_unless_told_otherwise():
    assert resolved(Automatic(), False) == Mean() and resolved(Automatic(), True) == FrozenA()
    assert resolved(Svd(), True) == Svd()
    private = {"kind": "example", "epsilon": 8.0}
    assert rule_of(config_of(privacy=private)).trains(1) == {Part.B}
    assert rule_of(config_of("mean", privacy=private)).trains(1) == {Part.A, Part.B}


def test_what_is_trained_in_a_round():
    alternating = rule_of(config_of("alternating"))
    assert [alternating.trains(round) for round in (1, 2, 3)] == [
        {"lora_B"},
        {"lora_A"},
        {"lora_B"},
    ]
    assert rule_of(config_of("stacking")).trains(1) == {"lora_A", "lora_B"}


def test_models_say_whether_they_have_adapters():
    assert adapter_of(make_config({}).model) is None and rule_of(make_config({})) is None
    stabilised = adapter_of(config_of(adapter={"rank": 4, "alpha": 8, "rslora": True}).model)
    assert stabilised.scaling(4) == 4.0 and adapter_of(config_of().model).scaling(4) == 4.0
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        config_of(adapter={"rank": 0, "alpha": 8})


def test_ranks_by_name_and_by_rows():
    given = GivenRanks(ranks={"small": 2})
    assert given.rank_of("small", 5) == 2 and given.rank_of("other", 5) is None
    by_size = RanksBySize(examples_per_rank=100, lowest=2)
    assert [by_size.rank_of("x", rows) for rows in (23, 450, 2000)] == [2, 4, 20]
