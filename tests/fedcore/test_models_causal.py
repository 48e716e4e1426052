"""Causal language models: marked tokens, likelihoods, adapters; on random weights made here."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcore.adapters.layers import layers_of
from fedcore.data.prompted import SEPARATOR, join
from fedcore.data.text_bytes import pack
from fedcore.evaluation import measure
from fedcore.models.build import build_model
from fedcore.models.causal_tokens import PADDING
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.parts import part_of
from fedcore.models.preprocess import preprocess_from_json
from fedcore.models.settings import CausalTransformerSettings
from fedcore.models.state import (
    frozen_state,
    load_state,
    load_trainable,
    trainable_parameters,
    trainable_state,
)
from fedcore.report.weighted import weighted_metrics
from fedcore.task import TEXTS, Task, TaskKind
from fedcore.training.train import predict

TASK = Task(TaskKind.LANGUAGE, TEXTS)
TEXT = {"kind": "text", "most_bytes": 40}
PROMPTS, RESPONSES = ["two and three", "", "héllo?"], ["five", "nothing before", "né"]
INPUTS = pack(join(PROMPTS, RESPONSES, 40), 40)
END = 257


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def folder(request):
    return request.getfixturevalue(request.param)


def settings(folder, **changes):
    given = {"max_tokens": 32, "adapter": {"rank": 3, "alpha": 6.0}}
    return CausalTransformerSettings(name=str(folder), **{**given, **changes})


def build(folder, **changes):
    return build_model(settings(folder, **changes), TASK, (32,), 0)


def random_params(model):
    rng, state = np.random.default_rng(0), trainable_state(model)
    return {n: rng.normal(0, 0.3, v.shape).astype(np.float32) for n, v in state.items()}


def words(text, mark=False):
    ids = [sorted_bytes().index(byte) for byte in text.encode()]
    return [~one for one in ids] if mark else ids


def sorted_bytes():
    """The bytes in the order of the letters that stand for them."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    of = {chr(byte): byte for byte in plain} | {chr(256 + n): b for n, b in enumerate(other)}
    return [of[letter] for letter in letters]


def test_a_prompt_is_read_the_response_and_its_end_are_scored(tiny_gpt2, tiny_llama):
    plain, begun = (settings(one, max_tokens=8).preprocess(TEXT) for one in (tiny_gpt2, tiny_llama))
    rows = pack([f"ab{SEPARATOR}cd", "cd", ""])
    assert plain.apply(rows).tolist() == [
        [*words("ab", mark=True), *words("cd"), END, *[PADDING] * 3],
        [*words("cd"), END, *[PADDING] * 5],
        [END, *[PADDING] * 7],
    ]
    assert begun.apply(rows)[1].tolist() == [~256, *words("cd"), END, *[PADDING] * 4]
    assert plain.apply(rows[:0]).shape == (0, 8) and plain.output_shape((40,)) == (8,)
    assert preprocess_from_json(json.loads(json.dumps(begun.to_json()))) == begun


def test_too_long_a_prompt_loses_its_beginning_too_long_a_response_its_end(tiny_llama):
    how = settings(tiny_llama, max_tokens=7).preprocess(TEXT)
    found = how.apply(pack([f"abcdefgh{SEPARATOR}xyz", f"abc{SEPARATOR}tuvwxyz"])).tolist()
    assert found[0] == [~256, *words("gh", mark=True), *words("xyz"), END]
    assert found[1] == [~256, *words("tuvwxy")]
    assert how.prompts(["abcdefgh", ""]) == [[256, *words("cdefgh")], [256]]
    assert how.words([*words("né"), END]) == "né"


def test_log_likelihoods_are_those_of_the_librarys_own_loss(folder):
    from transformers import AutoModelForCausalLM

    model, theirs = build(folder).eval(), AutoModelForCausalLM.from_pretrained(folder).eval()
    marked = settings(folder).preprocess(TEXT).apply(INPUTS).long()
    losses, counts, hits = [], [], 0
    with torch.no_grad():
        found = model(marked)
        for row in marked:
            row = row[row != PADDING]
            ids = torch.where(row < 0, ~row, row)[None]
            labels = torch.where(row < 0, -100, row)[None]
            answer = theirs(ids, labels=labels)
            following = labels[0, 1:]
            counts.append(int((following != -100).sum()))
            losses.append(answer.loss.double() * counts[-1])
            hits += int((answer.logits[0, :-1].argmax(-1) == following).sum())
    assert found[:, 1].tolist() == counts
    torch.testing.assert_close(-found[:, 0].double(), torch.stack(losses), rtol=1e-5, atol=1e-5)
    measured = measure(TASK, found.numpy(), np.zeros(3, np.int64))
    assert measured["loss"] == pytest.approx(float(sum(losses)) / sum(counts), rel=1e-5)
    assert measured["perplexity"] == pytest.approx(math.exp(measured["loss"]))
    assert measured["accuracy"] == hits / sum(counts)
    resampled = weighted_metrics(TASK, TASK.scores(found.numpy()), np.zeros(3, np.int64))
    for metric, statistic in resampled.items():
        assert statistic(np.ones(3)) == pytest.approx(measured[metric])
    twice = measure(TASK, found[[0, 0, 2]].numpy(), np.zeros(3, np.int64))["perplexity"]
    assert resampled["perplexity"](np.array([2, 0, 1])) == pytest.approx(twice)


def test_padding_changes_nothing_and_it_is_never_cut_in_two(folder, monkeypatch):
    model = build(folder).eval()
    load_trainable(model, random_params(model))
    how = settings(folder).preprocess(TEXT)
    with torch.no_grad():
        together = model(how.apply(INPUTS))
        alone = torch.cat([model(how.apply(row[None])) for row in INPUTS])
        monkeypatch.setattr("fedcore.models.causal._AT_ONCE", 1)
        row_by_row = model(how.apply(INPUTS))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(row_by_row, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(predict(model, INPUTS, preprocess=how), together, rtol=1e-5)
    assert on_frozen_backbone(model) is None


def test_frozen_weights_in_bfloat16_say_about_the_same(folder):
    model, half = build(folder).eval(), build(folder, base="bfloat16").train()
    for one in (model, half):
        load_trainable(one, random_params(model))
    marked = settings(folder).preprocess(TEXT).apply(INPUTS)
    found = half(marked)
    torch.testing.assert_close(found[:, :2], model(marked)[:, :2], rtol=0.05, atol=0.5)
    TASK.loss(found, torch.zeros(3)).backward()
    assert all((p.grad != 0).any() for p in trainable_parameters(half).values())


def test_a_text_of_one_token_has_nothing_to_score(tiny_gpt2):
    model, inputs = build(tiny_gpt2), settings(tiny_gpt2).preprocess(TEXT).apply(pack([""]))
    found = model(inputs)
    assert found.tolist() == [[0, 0, 0]]
    loss = TASK.loss(found, torch.zeros(1, dtype=torch.int64))
    gradients = torch.autograd.grad(loss, [*trainable_parameters(model).values()])
    assert loss == 0 and all((gradient == 0).all() for gradient in gradients)
    nothing = found.detach().numpy()
    assert measure(TASK, nothing, np.zeros(1, np.int64)) == {}
    resampled = weighted_metrics(TASK, nothing, np.zeros(1, np.int64))
    assert all(math.isnan(statistic(np.ones(1))) for statistic in resampled.values())
    hopeless = measure(TASK, np.array([[-5000.0, 2.0, 0.0]]), np.zeros(1, np.int64))
    assert math.isfinite(hopeless["perplexity"])


def test_the_gradient_in_closed_form_is_autograds():
    logits = torch.tensor([[-6.0, 3.0, 1.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).requires_grad_()
    targets = torch.zeros(3, dtype=torch.int64)
    each = sum(TASK.loss(logits[at : at + 1], targets[:1]) for at in range(3))
    (expected,) = torch.autograd.grad(each, logits)
    found = TASK.logit_gradients(logits.detach(), targets)
    # The number of tokens is data, whatever its own gradient would be.
    torch.testing.assert_close(found[:, 0], expected[:, 0])
    assert (found[:, 1:] == 0).all()


def test_adapters_start_as_nothing_and_the_output_layer_stays_frozen(folder):
    model, plain = build(folder).eval(), build(folder, mode="full").eval()
    marked = settings(folder).preprocess(TEXT).apply(INPUTS)
    with torch.no_grad():
        torch.testing.assert_close(model(marked), plain(marked), rtol=1e-5, atol=1e-5)
    names = trainable_state(model)
    assert {part_of(name) for name in names} == {"lora_A", "lora_B"}
    ends = {layer.name.rpartition(".")[2] for layer in layers_of(names)}
    assert ends == ({"c_attn"} if "gpt2" in str(folder) else {"q_proj", "v_proj"})


@pytest.mark.parametrize("targets", [(), ("c_fc", "c_proj")])
def test_factors_beside_conv1d_are_those_of_a_linear_layer(tiny_gpt2, targets):
    model = build(tiny_gpt2, adapter={"rank": 3, "targets": targets}).eval()
    params = random_params(model)
    for layer in layers_of(params):
        conv = model.get_submodule(layer.name).base_layer
        assert params[layer.a].shape == (3, conv.in_features)
        assert params[layer.b].shape == (conv.out_features, 3)
        assert tuple(conv.weight.shape) == (conv.out_features, conv.in_features)
    # A correction of what the adapters add is the same model without them.
    scale = settings(tiny_gpt2, adapter={"rank": 3}).adapter.scaling(3)
    moved = dict(params)
    for layer in layers_of(params):
        moved[layer.residual] = scale * params[layer.b] @ params[layer.a]
        moved[layer.b] = np.zeros_like(params[layer.b])
    marked = settings(tiny_gpt2).preprocess(TEXT).apply(INPUTS)
    with torch.no_grad():
        load_trainable(model, params)
        with_factors = model(marked)
        load_trainable(model, moved)
        torch.testing.assert_close(model(marked), with_factors, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["adapters", "full"])
def test_what_is_trained_and_what_is_frozen_are_the_whole_model(folder, mode):
    model, other = build(folder, mode=mode), build(folder, mode=mode)
    params = random_params(model)
    load_trainable(model, params)
    frozen = {name: tensor.numpy().copy() for name, tensor in frozen_state(model).items()}
    assert not frozen.keys() & params.keys()
    if "gpt2" in str(folder):  # tied: one tensor, one name
        assert "backbone.network.lm_head.weight" not in {*frozen, *params}
    load_state(other, {**params, **frozen})
    marked = settings(folder).preprocess(TEXT).apply(INPUTS)
    with torch.no_grad():
        assert model.eval()(marked).equal(other.eval()(marked))
    with pytest.raises(ValueError, match=r"state does not fit the model: missing \['backbone"):
        load_state(other, frozen)


def test_it_writes_what_is_most_probable_up_to_the_end(folder):
    model = build(folder).eval()
    load_trainable(model, random_params(model))
    prompt = settings(folder).preprocess(TEXT).prompts(["two and"])[0]
    with torch.no_grad():
        found = model.backbone.generate(prompt, 6, END)
        ids = list(prompt)
        for _ in range(6):
            logits = model.backbone.network(torch.tensor([ids])).logits[0, -1]
            ids.append(int(logits.argmax()))
            if ids[-1] == END:
                break
        assert found == ids[len(prompt) :]
        assert model.backbone.generate(prompt, 6, found[1])[-1] == found[1]
        room = 64 - len(prompt)
        assert len(model.backbone.generate(prompt, 1000, -1)) == room
        assert model.backbone.generate(prompt * 20, 5, END) == []


def test_what_cannot_work_is_refused(tiny_gpt2, tiny_bert, tmp_path: Path):
    with pytest.raises(ValueError, match="reads texts; the data is a table"):
        settings(tiny_gpt2).preprocess({"kind": "table"})
    with pytest.raises(ValueError, match="max_tokens=65 is more than the 64 tokens"):
        settings(tiny_gpt2, max_tokens=65).preprocess(TEXT)
    with pytest.raises(ValueError, match="its tokenizer has no end of text"):
        settings(tiny_bert).preprocess(TEXT)
    with pytest.raises(ValueError, match=r"base='bfloat16' is for weights that stay frozen"):
        settings(tiny_gpt2, base="bfloat16", mode="full")
    with pytest.raises(ValueError, match=r"base='nf4' keeps weights in 4 bits.*no CUDA device"):
        build(tiny_gpt2, base="nf4")
    with pytest.raises(ValueError, match=r"adapter.targets=\['query'\]: a block has only.*c_attn"):
        build(tiny_gpt2, adapter={"targets": ["query"]})
