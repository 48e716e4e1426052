"""Adapters as they are published: served, for PEFT, merged; on random weights made here."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter

from fedcore import tensors
from fedcore.adapters.layers import layers_of
from fedcore.config import make_config
from fedcore.data.text_bytes import pack
from fedcore.models.build import build_model
from fedcore.models.settings import ModelSettings
from fedcore.models.state import load_trainable, trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.train import predict
from tasks.registry.adapters_told import base_and_adapters, trained_parameters
from tasks.registry.exported import export_adapter, export_merged
from tasks.registry.finished_run import FinishedRun
from tasks.registry.model_folder import write_model, write_parts

THREE = Task(TaskKind.MULTICLASS, ("cat", "dog", "owl"))
TEXT = {"kind": "text", "most_bytes": 40}
IMAGE = {"kind": "image", "shape": [4, 4, 3]}
IDENTITY = ("dataset", "fingerprint", "config", "partition", "code", "backbone")
TEXTS = ["the cat sat on a mat", "the dog ran", "", "a dog sat on the cat"]
rng = np.random.default_rng(0)
IMAGES = rng.integers(256, size=(4, 4, 4, 3), dtype=np.uint8)


def encoder(tiny_bert, folder):
    shutil.copytree(tiny_bert, folder)
    return {"kind": "text_transformer", "max_tokens": 10}


def text_classifier(tiny_bert, folder):
    from transformers import BertConfig, BertForSequenceClassification

    shutil.copytree(tiny_bert, folder)
    config = BertConfig.from_pretrained(folder, num_labels=5)
    BertForSequenceClassification(config).save_pretrained(folder)
    return {"kind": "text_transformer", "max_tokens": 10}


def image_classifier(tiny_bert, folder):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"image_size": 8, "patch_size": 4, "hidden_size": 12, "num_hidden_layers": 2}
    config = ViTConfig(num_attention_heads=2, intermediate_size=24, **sizes)
    ViTForImageClassification(config).save_pretrained(folder)
    return {"kind": "transformer", "image_size": 8}


def trained(make, tiny_bert, folder, residual=False, **adapter):
    """A finished run of random parameters, and the logits of its model."""
    settings = make(tiny_bert, folder / "base") | {"name": str(folder / "base"), "revision": "main"}
    settings |= {"mode": "adapters", "adapter": {"rank": 3, "alpha": 6.0, **adapter}}
    parsed = TypeAdapter(ModelSettings).validate_python(settings)
    features = IMAGE if parsed.kind == "transformer" else TEXT
    preprocess = parsed.preprocess(features)
    shape = preprocess.output_shape(tuple(features.get("shape", ())))
    module = build_model(parsed, THREE, shape, 0)
    params = {n: v + rng.normal(0, 0.2, v.shape) for n, v in trainable_state(module).items()}
    layers = layers_of(params)
    params[layers[0].a], params[layers[0].b] = params[layers[0].a][:1], params[layers[0].b][:, :1]
    if residual:
        for layer in layers[1:]:
            shape_of = len(params[layer.b]), params[layer.a].shape[1]
            params[layer.residual] = rng.normal(0, 0.2, shape_of)
    params = {name: value.astype(np.float32) for name, value in params.items()}
    state = module.state_dict()
    frozen = {n: t.numpy().copy() for n, t in state.items() if n not in params}
    load_trainable(module, params)
    header = {
        "config": make_config({"model": settings}).model_dump(mode="json"),
        "identity": dict.fromkeys(IDENTITY, "none"),
        "task": THREE.to_json(),
        "features": features,
        "preprocess": preprocess.to_json(),
        "input_shape": list(shape),
        "scaling": {},
    }
    run = FinishedRun("run", header, (), 0, params, {}, frozen=frozen)
    raw = IMAGES if parsed.kind == "transformer" else pack(TEXTS, 40)
    with torch.no_grad():
        logits = predict(module, raw, preprocess=preprocess, batch_size=4)
    return run, preprocess, raw, logits


def shown_logits(folder, preprocess, raw, monkeypatch):
    """What the code in the folder's README gives, run beside the folder and the base model."""
    monkeypatch.chdir(folder.parent)
    inputs = preprocess.apply(raw)
    names = {"pixel_values": inputs}
    if preprocess.kind == "text":
        names = {"input_ids": inputs.long(), "attention_mask": (inputs != preprocess.pad).long()}
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    with torch.no_grad():
        exec(code, names)
    return names["logits"].numpy()


@pytest.mark.parametrize(
    ("make", "choices"),
    [
        (encoder, {"residual": True}),
        (encoder, {"dora": True}),
        (text_classifier, {"rslora": True}),
        (image_classifier, {"residual": True, "rslora": True}),
    ],
)
def test_what_is_exported_answers_as_the_model_that_was_trained(
    make, choices, tiny_bert, tmp_path, monkeypatch
):
    run, preprocess, raw, logits = trained(make, tiny_bert, tmp_path, **choices)
    write_parts(tmp_path / "served", run)
    export_adapter(tmp_path / "adapter", tmp_path / "served")
    found = shown_logits(tmp_path / "adapter", preprocess, raw, monkeypatch)
    assert found == pytest.approx(logits, abs=2e-5)
    export_merged(tmp_path / "merged", tmp_path / "served")
    found = shown_logits(tmp_path / "merged", preprocess, raw, monkeypatch)
    assert found == pytest.approx(logits, abs=2e-5)


def test_an_adapter_says_its_base_and_ranks_and_a_residual_raises_them(tiny_bert, tmp_path):
    run, *_ = trained(encoder, tiny_bert, tmp_path, residual=True)
    write_parts(tmp_path / "served", run)
    export_adapter(tmp_path / "adapter", tmp_path / "served")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["r"] == 16
    assert list(config["rank_pattern"].values()) == [1]
    assert config["target_modules"] == sorted(config["target_modules"])
    readme = (tmp_path / "adapter" / "README.md").read_text()
    assert str(tmp_path) not in readme
    assert "LoRA, rank 3, alpha 6, blocks from the top: all; ranks 1 to 16 by layer" in readme


def test_texts_are_served_where_the_checkpoint_is_not(tiny_bert, tmp_path):
    import mlflow

    run, _, _, logits = trained(encoder, tiny_bert, tmp_path)
    write_model(tmp_path / "model", run)
    shutil.rmtree(tmp_path / "base")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    answer = served.predict(pd.DataFrame({"text": TEXTS}))
    assert answer.iloc[:, 1:].to_numpy() == pytest.approx(THREE.scores(logits), abs=1e-6)
    assert tensors.decode((tmp_path / "model/adapter/head.safetensors").read_bytes()).keys() == {
        "bias",
        "weight",
    }
    for file in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in file.read_text(), file


def test_what_has_no_adapters_is_said(tiny_bert, tmp_path):
    (tmp_path / "served").mkdir()
    value = {"backbone": None, "model": {"kind": "logistic"}}
    (tmp_path / "served" / "serving.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"kind logistic and mode None has no adapters.*--merged"):
        export_adapter(tmp_path / "out", tmp_path / "served")
    with pytest.raises(ValueError, match=r"kind logistic was not made from a checkpoint"):
        export_merged(tmp_path / "out", tmp_path / "served")


def test_the_card_says_base_adapters_ranks_rule_and_error(tiny_bert, tmp_path):
    run, *_ = trained(encoder, tiny_bert, tmp_path, residual=True)
    identity = run.header["identity"] | {"backbone": "ab12"}
    records = [{"adapters": {"error": 0.25}}, {"adapters": {"error": 0.1}}]
    run = replace(run, header=run.header | {"identity": identity}, records=records)
    assert base_and_adapters(run) == {
        "base model": "base, revision main, SHA-256 `ab12`",
        "adapters": "LoRA, rank 3, alpha 6, blocks from the top: all; 6 layers, ranks of this "
        "model 1 to 3 by layer; corrections of the frozen weights beside them",
        "adapters combined": "mean; relative error 0.1 in the last round, at most 0.25",
    }
    assert trained_parameters(run.params) == sum(
        value.size for name, value in run.params.items() if "residual" not in name
    )
