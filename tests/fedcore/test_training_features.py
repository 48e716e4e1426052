"""Features of frozen backbones: the same logits, kept by digest, never trusted blindly."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcore.digests import digest_arrays
from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.settings import DeitTinyRandomSettings
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.features import CHUNK, backbone_features, frozen_digest
from fedcore.training.settings import LoopSettings
from fedcore.training.train import predict, train

THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
SETTINGS = DeitTinyRandomSettings(mode="head", width=12, blocks=1, image_size=16, dropout=0.2)
PREPROCESS = SETTINGS.preprocess({"kind": "image", "shape": [12, 12, 1]})
IMAGES = np.random.default_rng(0).integers(0, 256, (CHUNK + 3, 12, 12, 1), dtype=np.uint8)
TARGETS = np.arange(len(IMAGES)) % 3


def _model(seed: int = 0):
    return build_model(SETTINGS, THREE, (3, 16, 16), seed=seed)


def _cut(seed: int = 0):
    cut = on_frozen_backbone(_model(seed))
    assert cut is not None
    return cut


def _trained(cache: Path | None) -> str:
    model = _model()
    train(
        model,
        IMAGES,
        TARGETS,
        task=THREE,
        preprocess=PREPROCESS,
        settings=LoopSettings(),
        learning_rate=0.1,
        seed=0,
        cache=cache,
    )
    return digest_arrays(trainable_state(model))


def test_the_head_on_features_gives_the_full_models_logits(tmp_path: Path) -> None:
    model = _model().eval()
    with torch.no_grad():
        full = model(PREPROCESS.apply(IMAGES)).numpy()
    for cache in (None, tmp_path, tmp_path):
        logits = predict(model, IMAGES, preprocess=PREPROCESS, cache=cache)
        np.testing.assert_allclose(logits, full, rtol=1e-4, atol=1e-5)


def test_a_cache_changes_no_byte_and_state_names_are_the_models(tmp_path: Path) -> None:
    without = _trained(None)
    assert _trained(tmp_path) == without, "filling it"
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert _trained(tmp_path) == without, "using it"
    assert list(trainable_state(_model())) == ["head.1.bias", "head.1.weight"]


def test_kept_features_are_used(tmp_path: Path) -> None:
    cut = _cut()
    first = backbone_features(cut, IMAGES, PREPROCESS, tmp_path)
    frozen_digest(cut)
    with torch.no_grad():
        for parameter in cut.backbone.parameters():
            parameter.zero_()  # a backbone that was run again would now answer otherwise
    assert torch.equal(backbone_features(cut, IMAGES, PREPROCESS, tmp_path), first)


def test_other_data_weights_or_preprocessing_have_their_own_features(tmp_path: Path) -> None:
    backbone_features(_cut(), IMAGES, PREPROCESS, tmp_path)
    backbone_features(_cut(), IMAGES[:3], PREPROCESS, tmp_path)
    backbone_features(_cut(seed=1), IMAGES, PREPROCESS, tmp_path)
    other = SETTINGS.model_copy(update={"image_size": 24}).preprocess(
        {"kind": "image", "shape": [12, 12, 1]}
    )
    backbone_features(_cut(), IMAGES, other, tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_damaged_features_are_computed_again(tmp_path: Path, damage: str) -> None:
    cut = _cut()
    first = backbone_features(cut, IMAGES, PREPROCESS, tmp_path)
    path = next(tmp_path.rglob("*.safetensors"))
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[:-9], "altered": content[:-1] + b"\x7f", "empty": b""}[damage]
    )
    with pytest.warns(UserWarning, match="damaged; computed again"):
        assert torch.equal(backbone_features(cut, IMAGES, PREPROCESS, tmp_path), first)
    assert path.read_bytes() == content, "and kept again"


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.warns(UserWarning, match="features were not kept"):
        features = backbone_features(_cut(), IMAGES, PREPROCESS, blocked)
    assert torch.equal(features, backbone_features(_cut(), IMAGES, PREPROCESS, None))


def test_features_are_checked_once_and_again_after_a_change(tmp_path: Path, monkeypatch) -> None:
    hashed = []

    def counting(arrays) -> str:
        hashed.append("features" in arrays)
        return digest_arrays(arrays)

    monkeypatch.setattr("fedcore.training.features.digest_arrays", counting)
    cut = _cut()
    first = backbone_features(cut, IMAGES, PREPROCESS, tmp_path)
    assert sum(hashed) == 1, "kept"
    for _ in range(3):
        assert torch.equal(backbone_features(cut, IMAGES, PREPROCESS, tmp_path), first)
    assert sum(hashed) == 2, "checked once"
    path = next(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    os.utime(path, ns=(1, 1))  # a clock's tick may be longer than this test
    with pytest.warns(UserWarning, match="damaged; computed again"):
        assert torch.equal(backbone_features(cut, IMAGES, PREPROCESS, tmp_path), first)
