"""Adapters over sites: ranks and corrections that the plan makes travel, and no others."""

import numpy as np
import pytest

from fedcore.adapters.layers import layers_of
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.server import AdapterRound
from fedcore.adapters.settings import Mean, Residual, Svd
from fedcore.config import make_config
from fedcore.data.arrays import Arrays
from fedcore.engines.in_process import InProcessEngine
from fedcore.fork import ForkRefused, fork
from fedcore.run import run_federated
from fedcore.sites.model_form import model_form
from fedcore.sites.refusal import Refusal
from fedcore.sites.session import Session
from fedcore.store import Store
from fedcore.tensors import encode

NAMES = ("north", "south")
WORDS = {"task": "binary", "inputs": "x", "targets": "y", "split": "split", "owner": "owner"}
SECTIONS = {
    "data": {"kind": "arrays", "path": "own.npz", **WORDS},
    "partition": {"kind": "by_owner"},
    "audit": {"remedy": "accept"},
    "model": {
        "kind": "deit_tiny_random",
        "mode": "adapters",
        "adapter": {"rank": 4, "alpha": 8.0},
        **{"image_size": 8, "patch_size": 4, "width": 6, "heads": 2, "blocks": 2},
    },
    "training": {"kind": "loop", "optimizer": "adamw", "batch_size": 8, "steps": 2},
    "rounds": {"count": 3, "min_clients": 2},
    "evaluation": {"splits": ["val"], "clients": True},
    "preprocessing": {"standardise": "none"},
}
RANKS = {"client_ranks": {"kind": "given", "ranks": {"south": 2}}}
HIDDEN = {
    "aggregation": {"weighting": "uniform", "adapters": {"kind": "frozen_a"}},
    "privacy": {
        "kind": "client",
        "norm_of": "product",
        "noise_multiplier": 1.0,
        "secret": "fixed",
    },
    "evaluation": {"splits": ["val"], "clients": False},
}


@pytest.fixture
def wards(tmp_path):
    """Site -> settings and folder of its own pictures; all of them are in ``everything``."""
    data, parts = {}, []
    for seed, name in enumerate(NAMES):
        draw, count = np.random.default_rng(seed), 24
        part = {
            "x": draw.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8),
            "y": np.arange(count) % 2,
            "split": np.repeat(["train", "val", "test"], [12, 6, 6]),
            "owner": np.full(count, name),
        }
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "own.npz", **part)
        data[name] = (Arrays(path="own.npz", **WORDS), tmp_path / name)
        parts.append(part)
    (tmp_path / "everything").mkdir()
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    np.savez(tmp_path / "everything" / "own.npz", **whole)
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapters", "changes"),
    [
        ({"kind": "stacking"}, {}),
        ({"kind": "residual"}, {}),
        ({"kind": "svd", "budget": 0.5}, {}),
        ({"kind": "frozen_a"}, HIDDEN),
    ],
    ids=["stacking", "residual", "svd", "hidden products"],
)
def test_exact_rules_chosen_ranks_and_hidden_products_give_the_model_of_one_process(
    adapters, changes, wards, tmp_path, make_world, attended
):
    sections = {**SECTIONS, "aggregation": {"adapters": adapters, **RANKS}, **changes}
    config = make_config(sections)
    here = Store(tmp_path / "here")
    engine = InProcessEngine(here, tmp_path / "cache")
    folder = tmp_path / "everything"
    alone = run_federated(config, store=here, engine=engine, run_id="run", data_folder=folder)[1]
    world = make_world(wards)
    with attended(*(Session(site, "run") for site in world.sites.values())):
        _, result = world.run(world.config(**sections))
    told = [row["status"] for one in result.records for row in one.outcomes.values()]
    assert told == ["done"] * 6
    assert [one.model for one in result.records] == [one.model for one in alone.records]
    assert result.final_digest == alone.final_digest
    if adapters["kind"] != "frozen_a":
        other = {"aggregation.adapters": {"kind": "mean"}, "engine": {"kind": "sites"}}
        with pytest.raises(ForkRefused, match=r"kind=mean at sites: the model to start from has"):
            fork(here, "run", 2, other, "other")
        assert fork(here, "run", 2, {"engine": {"kind": "sites"}}, "same")
    last = here.get_arrays(alone.records[-1].model)
    layers = layers_of(last)
    if adapters["kind"] == "svd":
        assert sum(len(last[layer.a]) for layer in layers) == 2 * len(layers)
    elif adapters["kind"] != "frozen_a":
        assert all((last[layer.residual] != 0).any() for layer in layers)


def form(chosen, first):
    return model_form(first, AdapterRound(chosen.build(), Scaling(8.0), 4, 1, 0))


def model(rank=4, other=None, residuals=()):
    """Two layers; ``other``: the rank of the second B."""
    found = {"head.bias": np.zeros(2, np.float32)}
    for name in ("q", "v"):
        found[f"{name}.lora_A.default.weight"] = np.zeros((rank, 3), np.float32)
        found[f"{name}.lora_B.default.weight"] = np.zeros((5, other or rank), np.float32)
    for name in residuals:
        found[f"{name}.base_layer.residual"] = np.zeros((5, 3), np.float32)
    return found


TAKEN = [
    (Mean(), model()),
    (Residual(), model()),
    (Residual(), model(residuals="qv")),
    (Svd(budget=0.5), model()),
    (Svd(budget=0.5), model(1)),
]
REFUSED = [
    (Mean(), model(residuals="qv"), "too_large: update|tensors: names"),
    (Mean(), model(3), "tensors: q.lora_A"),
    (Residual(), model(residuals="q"), "tensors: names"),
    (Residual(), model(3, residuals="qv"), "tensors: q.lora_A"),
    (Svd(budget=0.5), model(5), "tensors: q.lora_A"),
    (Svd(budget=0.5), model(3, 2), "tensors: q.lora_B"),
    (Svd(budget=0.5), model(0, 4), "tensors: q.lora_A"),
    (Svd(budget=0.5), model(residuals="qv"), "tensors: names"),
    (Svd(budget=0.5), model(2) | {"more": np.zeros(1, np.float32)}, "tensors: names"),
    (Svd(budget=0.5), model(2) | {"head.bias": np.zeros(3, np.float32)}, "tensors: head.bias"),
]


@pytest.mark.parametrize(("chosen", "given"), TAKEN)
def test_a_site_takes_the_ranks_and_corrections_that_its_plan_makes(chosen, given):
    found = form(chosen, model()).decoded(encode(given))
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in given.items()
    }


@pytest.mark.parametrize(("chosen", "given", "why"), REFUSED)
def test_a_site_refuses_any_other_form(chosen, given, why):
    with pytest.raises(Refusal, match=why):
        form(chosen, model()).decoded(encode(given))
