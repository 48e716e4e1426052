"""A causal language model over clients: whole runs, every rule, privately; own data refused."""

import json

import numpy as np
import pytest
import torch

from fedcore.audit.audit import audit
from fedcore.audit.settings import AuditSettings
from fedcore.chain import Chain
from fedcore.config import ConfigError, make_config
from fedcore.data.prompted import SEPARATOR
from fedcore.data.text import Text
from fedcore.data.text_bytes import unpack
from fedcore.engines.in_process import InProcessEngine
from fedcore.evaluation import summarise
from fedcore.events import silent
from fedcore.models.build import build_model
from fedcore.models.parts import part_of
from fedcore.models.settings import CausalTransformerSettings
from fedcore.models.state import load_trainable, trainable_state
from fedcore.partition.make import make_partition
from fedcore.partition.picture import class_table
from fedcore.plan import prepare
from fedcore.rounds import run_rounds
from fedcore.run import run_federated
from fedcore.store import Store
from fedcore.task import TEXTS, Task, TaskKind
from fedcore.training.private.clipped_sum import Loss, sum_one_by_one
from fedcore.training.private.trial import choose_way

TASK = Task(TaskKind.LANGUAGE, TEXTS)
NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight")
OWN = {"kind": "text", "task": "language", "label": "", "path": "own.jsonl"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A file of prompts and responses."""
    folder = tmp_path_factory.mktemp("own")
    rows = [
        {"prompt": f"{a} and {b}?", "response": f"{b} {a}.", "site": f"site-{at % 2}"}
        for at, (a, b) in enumerate((a, b) for a in NAMES for b in NAMES)
    ]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config(own, folder, **changes):
    given = {
        "data": OWN
        | {"path": str(own / "own.jsonl"), "text": "response", "prompt": "prompt"}
        | {"owner": "site", "most_bytes": 40},
        "partition": {"kind": "by_owner"},
        "audit": {"remedy": "accept"},
        "model": {"kind": "causal_transformer", "name": str(folder), "max_tokens": 24}
        | {"adapter": {"rank": 4, "alpha": 8.0}},
        "training": {"kind": "loop", "optimizer": "adamw", "learning_rate": 0.02}
        | {"batch_size": 8, "epochs": 1},
        "rounds": {"count": 2},
        "evaluation": {"choose": "perplexity", "clients": False},
    }
    return make_config(given, changes)


def run(config, folder):
    data = config.data.load()
    store = Store(folder / "store")
    plan = prepare(config, data, make_partition(data, config.partition, config.seed), store)
    chain = Chain(store, "run")
    chain.begin(plan.header())
    return store, list(run_rounds(plan, chain, InProcessEngine(store, folder / "cache"), silent))


def test_two_clients_lower_perplexity_and_do_so_again(own, tiny_gpt2, tmp_path):
    changes = {"model.adapter.targets": ["c_attn", "c_fc", "c_proj"]}
    digests = []
    for name in ("once", "again"):
        store = Store(tmp_path / name)
        engine = InProcessEngine(store, tmp_path / f"{name}-cache")
        settings = config(own, tiny_gpt2, **changes)
        result = run_federated(settings, store=store, engine=engine, run_id=name)[1]
        digests.append(result.final_digest)
    assert digests[0] == digests[1]
    records = [record.metrics["val"]["overall"] for record in result.records]
    before, after = (record["perplexity"] for record in records)
    assert after < 0.8 * before and after < 258  # of all tokens alike
    assert result.chosen.round == 2  # the better one is the lower one
    assert summarise({"a": records[0], "b": records[1]}, "perplexity") == ("a", before)
    assert set(records[0]) == {"num_examples", "loss", "accuracy", "perplexity"}


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("rule", ["frozen_a", "stacking", "residual", "svd"])
def test_rules_are_exact_beside_conv1d_and_linear_layers(own, model, rule, tmp_path, request):
    changes = {"aggregation.adapters.kind": rule, "training.epochs": None, "training.steps": 2}
    if rule != "frozen_a":
        changes |= {"aggregation.client_ranks": {"kind": "given", "ranks": {"site-0": 2}}}
    store, records = run(config(own, request.getfixturevalue(model), **changes), tmp_path)
    assert all(row["status"] == "done" for record in records for row in record.outcomes.values()), (
        records[-1].outcomes
    )
    last = store.get_arrays(records[-1].model)
    assert any(part_of(name) == "residual" for name in last) == (rule in ("stacking", "residual"))
    if rule != "svd":  # which keeps what its rank can hold
        assert all(record.adapters["error"] < 1e-6 for record in records)


def test_clipped_sums_are_those_of_each_texts_own_gradient(tiny_gpt2, own):
    settings = CausalTransformerSettings(name=str(tiny_gpt2), max_tokens=24)
    model = build_model(settings, TASK, (24,), 0).train()
    rng = np.random.default_rng(0)
    state = trainable_state(model)
    load_trainable(
        model, {n: rng.normal(0, 0.3, v.shape).astype(np.float32) for n, v in state.items()}
    )
    data = Text(**OWN, text="response", prompt="prompt").load(own).splits["train"]
    inputs = settings.preprocess({"kind": "text"}).apply(data.inputs[:4])
    targets = torch.from_numpy(data.targets[:4])

    def total(network, inputs, targets):
        return TASK.loss(network(inputs), targets) * len(targets)

    loss = Loss(total, TASK.logit_gradients)
    way = choose_way(model, loss, inputs, targets)
    assert way is sum_one_by_one
    bounds = torch.tensor([0.01, 0.5, 1e30, 1e30], dtype=torch.float64)
    found = way(model, loss)(inputs, targets, bounds)
    parameters = [p for p in model.parameters() if p.requires_grad]
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for row, bound in zip(inputs, bounds, strict=True):
        likelihood, tokens, _ = model(row[None])[0]
        gradients = torch.autograd.grad(-likelihood / tokens, parameters)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for sums, gradient in zip(expected, gradients, strict=True):
            sums += gradient * min(1.0, float(bound / norm))
    for parameter, sums in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found[parameter], sums, rtol=1e-4, atol=1e-6)


def test_a_private_run_trains_b_alone(own, tiny_gpt2, tmp_path):
    privacy = {"kind": "example", "epsilon": 8.0, "delta": 1e-3, "clip_norm": 0.5}
    privacy |= {"secret": "fixed"}
    changes = {"privacy": privacy, "training.epochs": None, "training.steps": 2, "rounds.count": 1}
    settings = config(own, tiny_gpt2, **changes)
    store, (record,) = run(settings, tmp_path)
    assert all(row["status"] == "done" for row in record.outcomes.values()), record.outcomes
    asked = CausalTransformerSettings(**settings.model.model_dump())
    first = trainable_state(build_model(asked, TASK, (24,), settings.seed))
    last = store.get_arrays(record.model)
    moved = {part_of(name) for name in last if (last[name] != first[name]).any()}
    assert moved == {"lora_B"}


def test_the_whole_model_can_be_trained(own, tiny_gpt2, tmp_path):
    changes = {"model.mode": "full", "training.learning_rate": 0.002, "training.steps": 4}
    store, records = run(config(own, tiny_gpt2, **changes, **{"training.epochs": None}), tmp_path)
    loss = [record.metrics["val"]["overall"]["loss"] for record in records]
    assert loss[1] < loss[0]
    assert not any("lm_head" in name for name in store.get_arrays(records[-1].model))


def test_own_data_is_texts_or_prompts_and_responses(own):
    data = Text(**OWN, text="response", prompt="prompt").load(own)
    assert data.task == TASK and data.features["prompted"]
    assert not data.splits["train"].targets.any()
    assert unpack(data.splits["test"].inputs)[0].count(SEPARATOR) == 1
    plain = Text(**OWN, text="response").load(own)
    assert "prompted" not in plain.features
    assert SEPARATOR not in "".join(unpack(plain.splits["train"].inputs))
    # One label: Dirichlet draws the clients' sizes, and the table says how many texts each has.
    shared = make_config({"partition": {"kind": "dirichlet", "clients": 3, "min_size": 2}})
    table = class_table(data, make_partition(data, shared.partition, 0))
    assert list(table.columns) == ["texts"] and table.to_numpy().sum() == len(data.splits["train"])


def test_the_audit_finds_cut_and_empty_responses(tmp_path):
    rows = [
        ("first " + "why " * 20 + "last?", "because"),
        ("short", ""),
        ("short", "so " * 30),
        ("who", "me"),
    ]
    lines = (json.dumps({"prompt": a, "response": b}) + "\n" for a, b in rows)
    (tmp_path / "own.jsonl").write_text("".join(lines))
    text = Text(
        **OWN, text="response", prompt="prompt", most_bytes=40, val_fraction=0, test_fraction=0
    )
    data = text.load(tmp_path)
    kept = unpack(data.splits["train"].inputs)
    assert kept[0].endswith(f"last?{SEPARATOR}because") and "first" not in kept[0]
    assert kept[2].startswith(f"{SEPARATOR}so so")
    found = {one.check: one.count for one in audit(data, AuditSettings()).findings}
    assert found["text-lengths"] == 2 and found["empty-texts"] == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"label": "label"}, r"label='label' and labels=\[\] with task='language'"),
        ({"labels": ("a",)}, r"labels=\['a'\] with task='language'"),
        ({"task": "binary", "label": "b", "prompt": "a"}, "prompt='a' with task='binary'"),
        ({"prompt": "text"}, r"columns \['text'\] have two roles"),
    ],
)
def test_columns_that_make_no_sense_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        Text(**{**OWN, **changes})


def test_a_separator_in_the_data_is_refused(tmp_path):
    rows = [{"text": "a", "prompt": "b"}, {"text": f"a{SEPARATOR}b", "prompt": "c"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for prompt, what in ((None, "text"), ("prompt", "response")):
        with pytest.raises(ValueError, match=rf"{what} 1 holds the character U\+001E.*Remove it"):
            Text(**OWN, prompt=prompt).load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"training.head_rounds": 1}, "trains the head alone, and a model of kind='causal_trans"),
        ({"training.class_weights": "client"}, "needs classes; a language task has none"),
        ({"evaluation.choose": "auc"}, "choose='auc' is not measured in a language task"),
        ({"model": {"kind": "mlp"}}, r"predicts labels; texts is a language task.*causal_tran"),
        (
            {"data.task": "multiclass", "data.label": "site", "data.prompt": None}
            | {"data.owner": None, "partition": {"kind": "iid", "clients": 2}}
            | {"evaluation.choose": "loss"},
            r"learns texts, not labels; texts is a multiclass task.*data.task: language",
        ),
        ({"attacks": {"kind": "audit"}}, "needs one label for each record; texts is a language"),
    ],
)
def test_what_a_language_task_cannot_have_is_refused(own, tiny_gpt2, tmp_path, changes, match):
    with pytest.raises((ValueError, ConfigError), match=match):
        run(config(own, tiny_gpt2, **changes), tmp_path)
