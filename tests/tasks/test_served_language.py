"""A causal language model as it is published: for PEFT, merged, served; on random weights."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from fedcore.adapters.layers import layers_of
from fedcore.config import make_config
from fedcore.data.prompted import SEPARATOR, join
from fedcore.data.text_bytes import pack
from fedcore.models.build import build_model
from fedcore.models.causal_tokens import PADDING
from fedcore.models.settings import CausalTransformerSettings
from fedcore.models.state import as_array, frozen_state, load_trainable, trainable_state
from fedcore.task import TEXTS, Task, TaskKind
from tasks.registry.champion import compare_with_champion
from tasks.registry.exported import export_adapter, export_merged
from tasks.registry.finished_run import FinishedRun
from tasks.registry.model_folder import write_model, write_parts

TASK = Task(TaskKind.LANGUAGE, TEXTS)
PROMPTED = {"kind": "text", "most_bytes": 40, "prompted": True}
IDENTITY = ("dataset", "fingerprint", "config", "partition", "code", "backbone")
PROMPTS = ["two and three", "one"]
INPUTS = pack(join(PROMPTS, ["five", "two or more"], 40), 40)


def trained(checkpoint, folder, residual=False, features=PROMPTED, **adapter):
    """A finished run of random parameters, its model and what that reads."""
    shutil.copytree(checkpoint, folder / "base")
    settings = {"kind": "causal_transformer", "name": str(folder / "base"), "max_tokens": 32}
    settings |= {"adapter": {"rank": 3, "alpha": 6.0, **adapter}}
    parsed = CausalTransformerSettings(**settings)
    preprocess = parsed.preprocess(features)
    module = build_model(parsed, TASK, (32,), 0).eval()
    rng = np.random.default_rng(0)
    params = {n: v + rng.normal(0, 0.2, v.shape) for n, v in trainable_state(module).items()}
    layers = layers_of(params)
    params[layers[0].a], params[layers[0].b] = params[layers[0].a][:1], params[layers[0].b][:, :1]
    for layer in layers[1:] if residual else ():
        shape = len(params[layer.b]), params[layer.a].shape[1]
        params[layer.residual] = rng.normal(0, 0.2, shape)
    params = {name: value.astype(np.float32) for name, value in params.items()}
    frozen = {name: as_array(tensor).copy() for name, tensor in frozen_state(module).items()}
    load_trainable(module, params)
    header = {
        "config": make_config({"model": settings}).model_dump(mode="json"),
        "identity": dict.fromkeys(IDENTITY, "none"),
        "task": TASK.to_json(),
        "features": features,
        "preprocess": preprocess.to_json(),
        "input_shape": [32],
        "scaling": {},
    }
    run = FinishedRun("run", header, (), 0, params, {}, frozen=frozen)
    return run, preprocess, module


def logits(network, ids):
    with torch.no_grad():
        return network(torch.tensor([ids])).logits.numpy()


@pytest.mark.parametrize("checkpoint", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("choices", [{"residual": True}, {"rslora": True}, {"dora": True}])
def test_peft_and_transformers_load_what_is_exported(
    checkpoint, choices, tmp_path, request, recwarn, monkeypatch
):
    run, preprocess, module = trained(request.getfixturevalue(checkpoint), tmp_path, **choices)
    write_parts(tmp_path / "served", run)
    export_adapter(tmp_path / "adapter", tmp_path / "served")
    export_merged(tmp_path / "merged", tmp_path / "served")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM" and config["modules_to_save"] is None
    assert config["fan_in_fan_out"] == (checkpoint == "tiny_gpt2")
    assert not (tmp_path / "adapter" / "head.safetensors").exists()
    ids = preprocess.prompts(PROMPTS)[0]
    expected = logits(module.backbone.network, ids)
    monkeypatch.chdir(tmp_path)
    for folder in ("adapter", "merged"):
        readme = (tmp_path / folder / "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
        names = {"input_ids": torch.tensor([ids])}
        with torch.no_grad():
            exec(code, names)
        assert names["logits"].numpy() == pytest.approx(expected, abs=2e-5), folder
        assert "predicts: language" in readme and "has no head" not in readme
    assert (tmp_path / "merged" / "tokenizer.json").is_file()
    assert not [one for one in recwarn if "fan_in_fan_out" in str(one.message)]


def test_it_is_served_where_the_checkpoint_is_not(tiny_gpt2, tmp_path):
    import mlflow

    run, preprocess, module = trained(tiny_gpt2, tmp_path)
    with torch.no_grad():
        ids = [module.backbone.generate(one, 5, 257) for one in preprocess.prompts(PROMPTS)]
    expected = [preprocess.words(one) for one in ids]
    write_model(tmp_path / "model", run)
    shutil.rmtree(tmp_path / "base")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    found = served.predict(pd.DataFrame({"prompt": PROMPTS}), params={"max_new_tokens": 5})
    assert found["prediction"].tolist() == expected
    assert list(found) == ["prediction"] and found["prediction"][0]
    longer = served.predict(pd.DataFrame({"prompt": PROMPTS[:1]}))["prediction"][0]
    assert longer.startswith(found["prediction"][0]) and len(longer) > len(found["prediction"][0])
    with pytest.raises(Exception, match="max_new_tokens=0: a continuation has at least 1"):
        served.predict(pd.DataFrame({"prompt": PROMPTS}), params={"max_new_tokens": 0})
    with pytest.raises(Exception, match=r"text 0 holds the character U\+001E"):
        served.predict(pd.DataFrame({"prompt": [f"a{SEPARATOR}b"]}))
    assert "max_new_tokens" in str(served.metadata.signature.params)
    assert (tmp_path / "model" / "adapter" / "adapter_config.json").is_file()


def test_the_likelihoods_of_a_served_model_are_those_of_the_trained_one(tiny_gpt2, tmp_path):
    from tasks.registry.serving import load_module, load_preprocess

    run, preprocess, module = trained(tiny_gpt2, tmp_path, residual=True)
    write_parts(tmp_path / "served", run)
    value = json.loads((tmp_path / "served" / "serving.json").read_text())
    served, how = (
        load_module(tmp_path / "served", value),
        load_preprocess(tmp_path / "served", value),
    )
    marked = how.apply(INPUTS)
    assert marked.equal(preprocess.apply(INPUTS)) and (marked == PADDING).any()
    with torch.no_grad():
        assert served(marked).equal(module(marked))


def test_a_champion_that_counts_other_tokens_is_not_compared(tiny_gpt2, tmp_path, monkeypatch):
    run, *_ = trained(tiny_gpt2, tmp_path)
    other = {**run.header, "preprocess": run.header["preprocess"] | {"max_tokens": 16}}

    class Client:
        def get_registered_model(self, name):
            return type("M", (), {"aliases": {"champion": 1}})

        def get_model_version(self, name, version):
            return type("V", (), {"tags": run.tags, "run_id": "r"})

    logged = type("L", (), {"header": other, "evaluation": {}, "test": None})
    monkeypatch.setattr("tasks.registry.champion.read_run", lambda client, run_id: logged)
    found = compare_with_champion(Client(), run)
    assert "its perplexity is of other tokens" in found.not_comparable
