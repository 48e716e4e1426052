"""Frozen weights in 8 and 4 bits: what the libraries are asked for, where the rest is put, and
real training with bitsandbytes where it is installed (also on a CPU)."""

import importlib.util
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from fedcore.config import ConfigError, make_config
from fedcore.data.text_bytes import pack
from fedcore.digests import digest_arrays
from fedcore.models import weights
from fedcore.models.build import build_model, check_model
from fedcore.models.settings import TextTransformerSettings
from fedcore.models.state import estimate_memory, load_trainable, trainable_state
from fedcore.models.transformer import TransformerClassifier, new_head
from fedcore.task import Task, TaskKind
from fedcore.training.settings import LoopSettings
from fedcore.training.train import predict, train

TWO = Task(TaskKind.MULTICLASS, ("a", "b"))
TEXTS = ["the cat sat on a mat", "the dog ran", "cat", "a dog sat on the cat", "the mat sat", "ran"]
INPUTS, TARGETS = pack(TEXTS, 40), np.arange(6) % 2
HERE = importlib.util.find_spec("bitsandbytes") is not None
both = pytest.mark.parametrize("base", weights.QUANTISED)


def loading(base, monkeypatch):
    """As on a machine with a CUDA device and bitsandbytes."""
    find = importlib.util.find_spec
    with monkeypatch.context() as there:
        there.setattr(torch.cuda, "is_available", lambda: True)
        there.setattr(
            importlib.util,
            "find_spec",
            lambda name, *more: name == "bitsandbytes" or find(name, *more),
        )
        return weights.loading(base)


@both
def test_what_transformers_is_asked_for(base, monkeypatch):
    found = loading(base, monkeypatch)
    how = found["quantization_config"]
    assert (how.load_in_8bit, how.load_in_4bit) == (base == "int8", base == "nf4")
    assert how.llm_int8_skip_modules == ["classifier", "score"]
    assert found["device_map"] == {"": 0} and found["dtype"] == torch.bfloat16
    if base == "nf4":
        assert how.bnb_4bit_quant_type == "nf4" and how.bnb_4bit_use_double_quant
        assert how.bnb_4bit_compute_dtype == torch.bfloat16


def test_a_model_is_tried_and_measured_where_its_weights_are():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Linear(3, 4, device="meta")

        def forward(self, inputs):
            return self.network(inputs)

    model = TransformerClassifier(Backbone(), new_head(4, 2, 0.0), "head")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    check_model(model, TWO, (3,))
    assert estimate_memory(model, (3,), 2).weights == 4 * (3 * 4 + 4 + 4 * 2 + 2)


def config_of(**sections):
    return make_config({"model": {"kind": "text_transformer", **sections.pop("model")}, **sections})


@both
def test_what_cannot_be_computed_is_refused_before_anything_is_loaded(base):
    model, there = {"base": base}, {"kind": "loop", "device": "cuda"}
    with pytest.raises(ConfigError, match=f"base={base} with training.device=cpu: quantised"):
        config_of(model=model)
    assert config_of(model=model, training=there).model.served().base == "bfloat16"
    assert config_of(model=model, training=there | {"device": "auto"})
    for kind in ("stacking", "residual"):
        adapters = {"adapters": {"kind": kind}}
        with pytest.raises(ConfigError, match=f"{kind} corrects frozen weights.*base={base}"):
            config_of(model=model, training=there, aggregation=adapters)


@pytest.fixture
def quantised(monkeypatch):
    """Quantised on this processor: the same path but for the device."""
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    # It packs 4 bits for inference wherever a frozen layer is in evaluation mode (0.50.2, AVX-512
    # with bfloat16), and cannot train through what it packed.
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)
    asked = {base: loading(base, monkeypatch) for base in weights.QUANTISED}
    here = {base: {**how, "device_map": {"": "cpu"}} for base, how in asked.items()}
    monkeypatch.setattr(weights, "loading", lambda base: here[base])


@pytest.fixture(scope="module")
def classifier(tiny_bert, tmp_path_factory):
    """A sequence classifier with two labels of its own, as wide as a block of 4-bit weights."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = shutil.copytree(tiny_bert, tmp_path_factory.mktemp("bert") / "classifier")
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=13, intermediate_size=64, max_position_embeddings=32, **small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@both
@pytest.mark.skipif(not HERE, reason="needs bitsandbytes")
def test_adapters_beside_quantised_weights_learn_and_end_in_the_same_bits(
    base, quantised, classifier
):
    def settings(base):
        return TextTransformerSettings(
            name=str(classifier), max_tokens=10, base=base, adapter={"rank": 4}
        )

    preprocess = settings(base).preprocess({"kind": "text", "most_bytes": 40})
    model = build_model(settings(base), TWO, (10,), 0)
    query = model.backbone.network.bert.encoder.layer[0].attention.self.query.base_layer
    assert query.weight.dtype == {"int8": torch.int8, "nf4": torch.uint8}[base]
    # The checkpoint's own head stays whole, and is trained.
    assert type(model.head) is nn.Linear and model.head.weight.dtype == torch.float32
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    begun, digests = trainable_state(model), set()
    for _ in range(2):
        load_trainable(model, begun)
        result = train(
            model,
            INPUTS,
            TARGETS,
            task=TWO,
            preprocess=preprocess,
            settings=LoopSettings(batch_size=3, optimizer="adamw"),
            learning_rate=0.02,
            seed=3,
        )
        digests.add(digest_arrays(trainable_state(model)))
    after = trainable_state(model)
    assert len(digests) == 1 and np.isfinite(result.metrics["loss"])
    assert all((after[name] != begun[name]).any() for name in begun)
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(weights, "loading", lambda base: {"dtype": torch.float32})
        whole = build_model(settings("float32"), TWO, (10,), 0)
    load_trainable(whole, after)
    near, exact = (predict(one, INPUTS, preprocess=preprocess) for one in (model, whole))
    assert np.abs(near - exact).max() < 0.1 * np.abs(exact).max()
