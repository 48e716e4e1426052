"""Rules for adapters in rounds: records, unequal ranks, hidden clients, real training."""

import numpy as np
import pytest
import torch
from torch import nn

from fedcore.adapters.layers import Layer, layers_of
from fedcore.adapters.scaling import Scaling
from fedcore.chain import Chain, RoundRecord
from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.events import EventType, silent
from fedcore.jobs import JobKind
from fedcore.models.provided import provided
from fedcore.outcomes import ClientUpdate, Done, Evaluation
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.privacy.owner import Owner
from fedcore.refs import Ref
from fedcore.report.tables import round_table, rounds_table
from fedcore.rounds import aggregation_in, run_rounds
from fedcore.run import run_federated
from fedcore.store import Store
from tasks.registry.entities import metric_values

RANKS = {"client-000": 2, "client-001": 4, "client-002": 8}


class Adapted(nn.Module):
    """A frozen layer with an adapter of rank 8, named as PEFT names it, and a head."""

    def __init__(self, inputs=30, width=12, rank=8, scale=2.0):
        super().__init__()
        self.query = nn.Linear(inputs, width)
        self.query.requires_grad_(False)
        self.query.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, rank, bias=False)})
        self.query.lora_B = nn.ModuleDict({"default": nn.Linear(rank, width, bias=False)})
        nn.init.zeros_(self.query.lora_B["default"].weight)
        self.head, self.scale = nn.Linear(width, 1), scale

    def forward(self, inputs):
        adapter = self.query.lora_B["default"](self.query.lora_A["default"](inputs))
        return self.head(torch.tanh(self.query(inputs) + self.scale * adapter))

    def fit(self, params):
        """Here it trains at its own rank alone; invented clients load nothing."""

    def carried(self):
        return {Layer("query").residual: None}


def adapted(task, input_shape, adapter):
    return Adapted(rank=adapter["rank"], scale=adapter["alpha"] / adapter["rank"])


def config_of(adapters=None, ranks=None, **sections):
    aggregation = {"adapters": adapters or {"kind": "mean"}}
    aggregation |= {"client_ranks": {"kind": "given", "ranks": ranks}} if ranks else {}
    options = {"adapter": {"rank": 8, "alpha": 16.0}}
    given = {
        "data": {"kind": "breast_cancer"},
        "model": {"kind": "plugin", "name": "adapted", "options": options},
        "partition": {"kind": "iid", "clients": 3},
        "rounds": {"count": 3},
        "aggregation": {"weighting": "uniform", **aggregation},
        **sections,
    }
    return make_config(given)


class InventedClients:
    """Each draws its delta from its job's key; what it must have is what the round expects."""

    def __init__(self, store, config, plan, turned=False):
        self.store, self.config, self.plan, self.turned = store, config, plan, turned

    def run(self, jobs):
        jobs = list(jobs)
        for job in jobs[::-1] if self.turned else jobs:
            yield job, self.answer(job)

    def answer(self, job):
        if job.kind is JobKind.EVALUATE:
            return Done(job.client, job.key, Evaluation(5, {"accuracy": 0.5}))
        rng = np.random.default_rng(int(job.key[:8], 16))
        base = self.store.get_arrays(job.base)
        start = self.plan.assignment(job.round, job.client).expected(base)
        delta = {n: rng.normal(size=v.shape).astype(np.float32) for n, v in sorted(start.items())}
        ref = self.store.put_arrays(delta, "delta")
        return Done(job.client, job.key, ClientUpdate(job.base.digest, ref, 10))


def begun(folder, config, run_id="run"):
    store = Store(folder / "store")
    dataset = config.data.load(None)
    with provided(adapted=adapted):
        plan = prepare(config, dataset, make_partition(dataset, config.partition, 0), store)
    chain = Chain(store, run_id)
    chain.begin(plan.header())
    return plan, chain


def rounds(folder, config, run_id="run", emit=silent, turned=False, **more):
    plan, chain = begun(folder, config, run_id)
    engine = InventedClients(chain.store, config, plan, turned)
    with provided(adapted=adapted):
        return plan, chain, list(run_rounds(plan, chain, engine, emit, **more))


KINDS = ("mean", "frozen_a", "alternating", "stacking", "residual", "svd")


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_2_4_and_8_work_together_for_three_rounds(kind, tmp_path):
    told = []
    config = config_of({"kind": kind}, RANKS)
    _, chain, records = rounds(tmp_path, config, emit=told.append)
    errors = [one.adapters["error"] for one in records]
    assert all(row["status"] == "done" for one in records for row in one.outcomes.values())
    if kind in ("mean", "svd"):
        assert min(errors[1:]) > 0.01
    else:
        assert max(errors) < 1e-12  # quotients of these ranks are powers of two
    layer = layers_of(chain.store.get_arrays(records[-1].model))[0]
    last = chain.store.get_arrays(records[-1].model)
    assert last[layer.a].shape == (8, 30) and last[layer.b].shape == (12, 8)
    assert (layer.residual in last) == (kind in ("stacking", "residual"))
    assert records[-1].adapters["layers"] == {layer.name: {"error": errors[-1], "rank": 8}}
    facts = [fact for fact in told if fact.type is EventType.AGGREGATION_COMPLETED]
    assert [fact.metrics["adapter_error"] for fact in facts] == errors


def test_a_rank_that_does_not_fit_is_refused_and_left_out(tmp_path):
    plan, chain = begun(tmp_path, config_of({"kind": "svd"}, RANKS))
    other = begun(tmp_path, config_of({"kind": "svd"}, {"client-000": 4}), "other")[0]
    engine = InventedClients(chain.store, plan.config, other)
    record = next(run_rounds(plan, chain, engine, silent))
    reasons = {client: row.get("reason") for client, row in record.outcomes.items()}
    assert "the model has float32[2, 30]" in reasons["client-000"]
    assert record.outcomes["client-002"]["status"] == "done"


@pytest.mark.parametrize("kind", ["frozen_a", "alternating", "stacking", "residual"])
def test_the_model_that_is_kept_has_the_mean_product_within_float32(kind, tmp_path):
    """Asked: 1e-6, here of blobs as they travel, one round after the other."""
    plan, chain, records = rounds(tmp_path, config_of({"kind": kind}, RANKS))
    load, scaling, layer = chain.store.get_arrays, Scaling(16.0), Layer("query")

    def product(model):
        a, b = (model[name].astype(np.float64) for name in (layer.a, layer.b))
        return scaling(len(a)) * b @ a

    for one in records:
        before, after, expected = load(one.parent), load(one.model), 0.0
        for client, row in one.outcomes.items():
            start = plan.assignment(one.round, client).start(before)
            delta = load(Ref(row["update"], row["bytes_up"], "delta"))
            there = {n: start[n].astype(np.float64) + delta.get(n, 0.0) for n in start}
            expected = expected + product(there) / 3
        carried = after.get(layer.residual, 0.0) - before.get(layer.residual, 0.0)
        off = np.linalg.norm(product(after) + carried - expected)
        assert off < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["mean", "stacking", "svd"])
def test_the_order_in_which_clients_answer_changes_no_byte(kind, tmp_path):
    config = config_of({"kind": kind}, RANKS)
    straight = rounds(tmp_path, config)[2]
    turned = rounds(tmp_path, config, "turned", turned=True)[2]
    assert [one.digest for one in straight] == [one.digest for one in turned]


def test_a_budget_chooses_ranks_that_travel_small(tmp_path):
    _, chain, records = rounds(tmp_path, config_of({"kind": "svd", "budget": 0.5}))
    for one in records:
        model = chain.store.get_arrays(one.model)
        assert model["query.lora_A.default.weight"].shape == (4, 30)
        assert model["query.lora_B.default.weight"].shape == (12, 4)
        assert one.adapters["layers"]["query"]["rank"] == 4
    assert min(one.adapters["error"] for one in records) > 0.01


def test_the_record_is_read_back_and_shown(tmp_path):
    _, chain, records = rounds(tmp_path, config_of())
    told = [one.to_json() for one in records]
    assert [RoundRecord.from_json(one) for one in told] == records == list(chain.records())
    error = records[1].adapters["error"]
    assert f"Adapters: product off by {error:.1e}, most at query" in round_table(told[1])
    assert "| adapter error |" in rounds_table(told) and f"{error:.1e}" in rounds_table(told)
    metrics = {(key, round) for key, _, round in metric_values(told)}
    assert {("adapter_error", number) for number in (1, 2, 3)} <= metrics
    without = {key: value for key, value in told[0].items() if key != "adapters"}
    assert RoundRecord.from_json(without).to_json() == without
    assert "adapter" not in rounds_table([without]) + round_table(without)


def test_a_rank_for_nobody_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"client_ranks.ranks names \['hospital'\]; the clients"):
        begun(tmp_path, config_of(ranks={"hospital": 4}))


CLIENT = {
    "privacy": {"kind": "client", "noise_multiplier": 1.0, "secret": "fixed"},
    "evaluation": {"clients": False, "splits": ["test"]},
}


@pytest.mark.parametrize("norm_of", ["update", "product"])
def test_where_clients_are_hidden_a_is_frozen_and_the_error_is_not_told(norm_of, tmp_path):
    privacy = {"privacy": CLIENT["privacy"] | {"norm_of": norm_of}}
    options = {"adapter": {"rank": 8, "alpha": 1.6}}
    model = {"model": {"kind": "plugin", "name": "adapted", "options": options}}
    config = config_of({"kind": "automatic"}, **CLIENT | privacy | model)
    plan, chain = begun(tmp_path, config)
    owner = Owner(tmp_path / "privacy")
    engine = InventedClients(chain.store, config, plan)
    how = aggregation_in(chain, owner)
    with provided(adapted=adapted):
        records = list(run_rounds(plan, chain, engine, silent, how, owner=owner))
    first, last = (chain.store.get_arrays(ref) for ref in (plan.initial.params, records[-1].model))
    a, b = layers_of(first)[0].a, layers_of(first)[0].b
    assert (first[a] == last[a]).all() and (last[b] != 0).all()
    assert records[-1].adapters == {} and "adapters" not in records[-1].to_json()
    # Noise that is even in the product is as large in B as A is short: sigma over s and A's length.
    lengths = 0.2 * np.linalg.svd(first[a], compute_uv=False)
    expected = {"update": 1.0, "product": np.sqrt((lengths**-2).mean())}[norm_of]
    spread = 3 * last[b].std() / np.sqrt(len(records))  # the mean is of three clients
    assert spread == pytest.approx(expected, rel=0.3)
    assert norm_of == "update" or expected > 5


def test_real_training_ends_with_the_plain_means_digest_and_tells_the_error(tmp_path):
    """The rule ``mean`` at equal ranks is what a run without rules does, bit for bit."""

    def run(name, adapter):
        def plain(task, input_shape, **options):
            return Adapted()

        model = {"kind": "plugin", "name": "plain", "options": adapter}
        config = config_of({"kind": "automatic"}, model=model, rounds={"count": 1})
        store = Store(tmp_path / name)
        with provided(plain=plain):
            engine = InProcessEngine(store, tmp_path / "cache")
            return run_federated(config, store=store, engine=engine, run_id=name)[1]

    plain, ruled = run("plain", {}), run("ruled", {"adapter": {"rank": 8, "alpha": 16.0}})
    assert plain.final_digest == ruled.final_digest
    assert [one.adapters for one in plain.records] == [{}]
    errors = [one.adapters["error"] for one in ruled.records]
    assert min(errors) > 0 and max(errors) < 1


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [{"kind": "stacking"}, {"kind": "svd", "budget": 0.5}])
def test_a_transformer_trains_adapters_of_other_ranks_by_peft(adapters, tmp_path):
    """Models take the ranks and residuals that a rule leaves, and go on training from them."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("test", 12)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 2
    np.savez(tmp_path / "own.npz", **arrays)
    small = {"image_size": 16, "width": 12, "blocks": 2}
    config = make_config(
        {
            "data": {"kind": "arrays", "path": "own.npz"},
            "model": {
                "kind": "deit_tiny_random",
                "mode": "adapters",
                "adapter": {"rank": 8, "alpha": 16.0},
                **small,
            },
            "partition": {"kind": "iid", "clients": 3},
            "rounds": {"count": 3},
            "aggregation": {
                "adapters": adapters,
                "client_ranks": {"kind": "given", "ranks": RANKS},
            },
        }
    )
    store = Store(tmp_path / "store")
    engine = InProcessEngine(store, tmp_path / "cache")
    result = run_federated(config, store=store, engine=engine, run_id="run", data_folder=tmp_path)[
        1
    ]
    last = store.get_arrays(result.records[-1].model)
    layers = layers_of(last)
    assert len(layers) == 4
    for one in result.records:
        assert {row["status"] for row in one.outcomes.values()} == {"done"}
    if adapters["kind"] == "stacking":
        assert result.records[-1].adapters["error"] < 1e-12
        assert all((last[layer.residual] != 0).any() for layer in layers)
    else:
        ranks = [len(last[layer.a]) for layer in layers]
        assert sum(ranks) == 16 and len(set(ranks)) > 1
        told = result.records[-1].adapters["layers"]
        assert [told[layer.name]["rank"] for layer in layers] == ranks
