"""Text adapters in a whole run, and privately: also by the Trainer, against batches of one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedcore.assignment import Assignment
from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.data.dataset import Dataset, Split
from fedcore.data.text_bytes import pack
from fedcore.engines.in_process import InProcessEngine
from fedcore.events import silent
from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.parts import part_of
from fedcore.models.settings import TextTransformerSettings
from fedcore.models.state import load_trainable, trainable_state
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.rounds import run_rounds
from fedcore.store import Store
from fedcore.task import Task, TaskKind
from fedcore.training.features import backbone_features
from fedcore.training.loss import mean_loss
from fedcore.training.private.by_layers import sum_by_layers
from fedcore.training.private.clipped_sum import sum_one_by_one
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.private.trial import choose_way
from fedcore.training.settings import LoopSettings, TrainerSettings
from fedcore.training.train import predict, train

TWO = Task(TaskKind.MULTICLASS, ("cat", "dog"))
TEXT = {"kind": "text", "most_bytes": 40}
rng = np.random.default_rng(0)
WORDS = np.array(["the", "sat", "ran", "on", "a", "mat"])


def written(count):
    """Texts that name one of the animals, somewhere."""
    targets = rng.integers(0, 2, count)
    texts = []
    for target in targets:
        words = list(rng.choice(WORDS, rng.integers(1, 6)))
        words.insert(int(rng.integers(0, len(words) + 1)), ("cat", "dog")[target])
        texts.append(" ".join(words))
    return Split(pack(texts, 40), targets)


TRAIN, TEST = written(60), written(30)


class Texts(Dataset):
    """Not scaled, as images are not."""

    is_image = True


def settings(folder, **changes):
    adapter = {"rank": 4, "layers": 2, "alpha": 8.0}
    given = {"name": str(folder), "max_tokens": 10, "base": "float32", "adapter": adapter}
    return {"kind": "text_transformer", **given, **changes}


def run(folder, tiny_bert, **changes):
    config = make_config(
        {
            "model": settings(tiny_bert),
            "partition": {"kind": "iid", "clients": 3},
            "training": {
                "kind": "loop",
                "optimizer": "adamw",
                "learning_rate": 0.02,
                "batch_size": 8,
            }
            | {"head_rounds": 1, "epochs": 2},
            "rounds": {"count": 3},
            "evaluation": {"splits": ["test"], "clients": False},
            "preprocessing": {"standardise": "none"},
        },
        changes,
    )
    data = Texts("texts", TWO, {"train": TRAIN, "test": TEST}, TEXT)
    store = Store(folder / "store")
    partition = make_partition(data, config.partition, config.seed)
    plan = prepare(config, data, partition, store)
    chain = Chain(store, "run")
    chain.begin(plan.header())
    engine = InProcessEngine(store, folder / "cache")
    return plan, store, list(run_rounds(plan, chain, engine, silent))


def test_a_run_trains_the_head_first_then_the_adapters(tiny_bert, tmp_path) -> None:
    plan, store, records = run(tmp_path, tiny_bert)
    models = [store.get_arrays(ref) for ref in (plan.initial.params, *(r.model for r in records))]
    moved = [
        {part_of(name) for name in before if (before[name] != after[name]).any()}
        for before, after in pairwise(models)
    ]
    assert moved == [{"head"}, {"head", "lora_A", "lora_B"}, {"head", "lora_A", "lora_B"}]
    losses = [record.metrics["test"]["overall"]["loss"] for record in records]
    assert losses[2] < losses[1] < losses[0]
    sizes = [{row["bytes_up"] for row in r.outcomes.values()} for r in records]
    assert max(sizes[0]) < min(sizes[1])
    # 3 clients and the test data: states before the head once, states before the adapters once.
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 8


@pytest.mark.parametrize("rule", ["frozen_a", "alternating", "stacking", "residual", "svd"])
def test_every_rule_works_with_real_adapters(tiny_bert, tmp_path, rule) -> None:
    changes = {"aggregation.adapters.kind": rule, "rounds.count": 3, "training.epochs": 1}
    if rule in ("stacking", "residual", "svd"):
        changes |= {"aggregation.client_ranks": {"kind": "given", "ranks": {"client-000": 2}}}
    _, store, records = run(tmp_path, tiny_bert, **changes)
    assert all(row["status"] == "done" for record in records for row in record.outcomes.values()), (
        records[-1].outcomes
    )
    last = store.get_arrays(records[-1].model)
    assert any(part_of(name) == "residual" for name in last) == (rule in ("stacking", "residual"))
    if rule in ("frozen_a", "alternating", "stacking", "residual"):
        assert all(record.adapters["error"] < 1e-6 for record in records[1:])


def test_head_rounds_need_a_head(tmp_path) -> None:
    config = make_config(
        {
            "data": {"kind": "breast_cancer"},
            "model": {"kind": "mlp"},
            "training": {"kind": "loop", "head_rounds": 2},
        }
    )
    data = config.data.load(None)
    partition = make_partition(data, config.partition, 0)
    with pytest.raises(ValueError, match=r"head_rounds=2 trains the head alone.*kind='mlp' has"):
        prepare(config, data, partition, Store(tmp_path))


def test_an_assignment_is_json_and_says_what_a_delta_has(tiny_bert, tmp_path) -> None:
    plan, store, _ = run(tmp_path, tiny_bert, **{"rounds.count": 1})
    params = store.get_arrays(plan.initial.params)
    head = plan.assignment(1)
    assert head.parts == ("head",) and set(head.expected(params)) == {
        "head.1.bias",
        "head.1.weight",
    }
    asked = Assignment(("head", "lora_B"), 2, plan.assignment(2).adapter)
    assert Assignment.from_json(asked.to_json()) == asked
    shapes = {name: value.shape for name, value in asked.expected(params).items()}
    assert {s for n, s in shapes.items() if "lora_B" in n} == {(16, 2)}
    assert not any("lora_A" in name for name in shapes)


@dataclass
class _Lesson:
    settings: LoopSettings
    task: Task
    class_weights: None = None
    device: str = "cpu"


def test_gradients_of_single_texts_follow_from_the_layers(tiny_bert) -> None:
    model = build_model(TextTransformerSettings(**settings(tiny_bert)), TWO, (10,), 0).train()
    state = trainable_state(model)
    load_trainable(
        model, {n: v + rng.normal(0, 0.3, v.shape).astype("f") for n, v in state.items()}
    )
    found = on_frozen_backbone(model)
    preprocess = TextTransformerSettings(**settings(tiny_bert)).preprocess(TEXT)
    states = backbone_features(found, TRAIN.inputs[:9], preprocess, None)
    targets = torch.from_numpy(TRAIN.targets[:9])

    def loss(network, inputs, targets):
        return mean_loss(_Lesson(LoopSettings(), TWO), network, inputs, targets) * len(targets)

    assert choose_way(found.head, loss, states, targets) is sum_by_layers
    ours = sum_by_layers(found.head, loss, 0.3)(states, targets)
    alone = sum_one_by_one(found.head, loss, 0.3)(states, targets)
    assert ours.keys() == alone.keys() and len(ours) == 10
    for parameter, value in alone.items():
        torch.testing.assert_close(ours[parameter], value, rtol=1e-3, atol=1e-5)


EXACT = ExampleNoise(clip_norm=1e6, noise_multiplier=0.0, sampling_rate=1.0, steps=3, micro_batch=7)


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["loop", pytest.param("trainer", marks=pytest.mark.slow)])
def test_without_noise_private_training_is_training(tiny_bert, kind, base) -> None:
    common = {"batch_size": 60, "steps": 3, "weight_decay": 0.0, "max_grad_norm": None}
    how = {
        "loop": LoopSettings(optimizer="adamw", **common),
        "trainer": TrainerSettings(accumulation=1, warmup=0.0, decay="constant", **common),
    }[kind]
    states = []
    for private in (None, EXACT):
        text = TextTransformerSettings(**settings(tiny_bert, base=base))
        model = build_model(text, TWO, (10,), 0)
        train(
            model,
            TRAIN.inputs,
            TRAIN.targets,
            task=TWO,
            preprocess=text.preprocess(TEXT),
            settings=how,
            learning_rate=0.01,
            seed=0,
            private=private,
            key=bytes(32),
        )
        states.append(predict(model, TEST.inputs, preprocess=text.preprocess(TEXT)))
    close = 1e-3 if base == "float32" else 0.05
    np.testing.assert_allclose(states[1], states[0], rtol=close, atol=close)
