"""Plug-in models with adapters: trained with every rule, or refused before the first round."""

import pytest
import torch
from torch import nn

from fedcore.adapters.layers import layers_of
from fedcore.adapters.scaling import Scaling
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.fork import fork
from fedcore.models.adapter_settings import AdapterSettings
from fedcore.models.adapters import add_adapters, carried, fit_adapters
from fedcore.models.provided import provided
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.run import run_federated
from fedcore.store import Store

GIVEN = {"kind": "given", "ranks": {"client-000": 2, "client-001": 4}}
SAME = {"kind": "same"}


class Rigid(nn.Module):
    """A layer with an adapter that PEFT puts in, and a head."""

    def __init__(self, adapter):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(30, 12))])
        add_adapters(self, AdapterSettings(**adapter))
        self.scaling, self.head = Scaling(adapter["alpha"]), nn.Linear(12, 1)

    def forward(self, inputs):
        return self.head(torch.tanh(self.blocks[0](inputs)))


class Fitting(Rigid):
    """The same, taking the ranks and the correction that it is given."""

    def fit(self, params):
        fit_adapters(self, params, self.scaling)

    def carried(self):
        return carried(self)


class Uncorrected(Fitting):
    """It says that it carries nothing."""

    def carried(self):
        return {}


def config_of(adapters, ranks=SAME):
    options = {"adapter": {"rank": 8, "alpha": 16.0}}
    return make_config(
        {
            "data": {"kind": "breast_cancer"},
            "model": {"kind": "plugin", "name": "own", "options": options},
            "partition": {"kind": "iid", "clients": 3},
            "rounds": {"count": 2},
            "aggregation": {"adapters": adapters, "client_ranks": ranks},
        }
    )


def prepared(folder, config, build):
    def own(task, input_shape, adapter):
        return build(adapter)

    dataset = config.data.load(None)
    with provided(own=own):
        return prepare(config, dataset, make_partition(dataset, config.partition, 0), Store(folder))


@pytest.mark.parametrize("kind", ["mean", "stacking", "residual", "svd"])
def test_one_that_takes_ranks_and_corrections_trains_with_them(kind, tmp_path):
    def own(task, input_shape, adapter):
        return Fitting(adapter)

    config = config_of({"kind": kind} | ({"budget": 0.5} if kind == "svd" else {}), GIVEN)
    store = Store(tmp_path / "store")
    with provided(own=own):
        engine = InProcessEngine(store, tmp_path / "cache")
        records = run_federated(config, store=store, engine=engine, run_id="run")[1].records
    assert {row["status"] for one in records for row in one.outcomes.values()} == {"done"}
    last = store.get_arrays(records[-1].model)
    (layer,) = layers_of(last)
    assert len(last[layer.a]) == (4 if kind == "svd" else 8)
    if kind in ("stacking", "residual"):
        assert (last[layer.residual] != 0).any() and records[-1].adapters["error"] < 1e-12


@pytest.mark.parametrize("kind", ["mean", "frozen_a", "alternating", "svd"])
def test_equal_ranks_need_nothing_but_named_factors(kind, tmp_path):
    assert prepared(tmp_path, config_of({"kind": kind}), Rigid)


REFUSED = [
    ({"kind": "stacking"}, SAME, Rigid, "kind=stacking corrects frozen weights, which the model"),
    ({"kind": "residual"}, SAME, Rigid, "kind=residual corrects .* no methods fit and carried"),
    ({"kind": "residual"}, SAME, Uncorrected, r"carries no 'blocks.0.0.base_layer.residual' \(1"),
    ({"kind": "svd", "budget": 0.5}, SAME, Rigid, "kind=svd with a budget chooses ranks"),
    ({"kind": "mean"}, GIVEN, Rigid, "client_ranks.kind=given cuts adapters"),
    ({"kind": "mean"}, SAME, lambda adapter: nn.Linear(30, 1), r"no tensors X\.lora_A\.default"),
    (
        {"kind": "mean"},
        SAME,
        lambda adapter: Rigid({**adapter, "rank": 4}),
        r"says adapter.rank=8, and has adapters of rank \[4\]",
    ),
]


@pytest.mark.parametrize(("adapters", "ranks", "build", "why"), REFUSED)
def test_what_a_round_would_find_out_is_refused_before_the_first(
    adapters, ranks, build, why, tmp_path
):
    with pytest.raises(ValueError, match=why):
        prepared(tmp_path, config_of(adapters, ranks), build)


def test_a_fork_to_another_rule_is_held_against_the_model(tmp_path):
    def own(task, input_shape, adapter):
        return Fitting(adapter)

    def rigid(task, input_shape, adapter):
        return Rigid(adapter)

    store, to = Store(tmp_path / "store"), "aggregation.adapters"
    with provided(own=own):
        engine = InProcessEngine(store, tmp_path / "cache")
        config = config_of({"kind": "residual"})
        run_federated(config, store=store, engine=engine, run_id="parent")
        for kind in ("mean", "stacking"):
            assert fork(store, "parent", 1, {to: {"kind": kind}}, kind)
    with provided(own=rigid), pytest.raises(ValueError, match="no methods fit and carried"):
        fork(store, "parent", 1, {to: {"kind": "stacking"}}, "rigid")
