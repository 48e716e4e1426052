"""Transformers with a new head: what is frozen, which files are read, which are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedcore.models.build import build_model
from fedcore.models.checkpoint import CheckpointNotFound, find_checkpoint
from fedcore.models.settings import DeitTinyRandomSettings, TransformerSettings
from fedcore.models.state import count_parameters, trainable_state
from fedcore.models.transformer import ImageBackbone, from_last_block, random_deit
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("no", "yes"))
GREY = {"kind": "image", "shape": [28, 28, 1]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a tiny DeiT, as ``save_pretrained`` leaves it."""
    folder = tmp_path_factory.mktemp("deit")
    torch.manual_seed(0)
    deit = random_deit(image_size=16, patch_size=8, width=12, blocks=2, heads=3, dropout=0.0)
    deit.network.classifier = nn.Linear(12, 5)
    deit.network.config.num_labels = 5
    deit.network.save_pretrained(folder)
    return folder


def test_modes_train_the_head_then_the_last_block_then_everything() -> None:
    states = {}
    for mode in ("head", "last-block", "full"):
        model = build_model(DeitTinyRandomSettings(mode=mode), BINARY, (3, 32, 32), seed=0)
        states[mode] = set(trainable_state(model))
    assert states["head"] == {"head.1.bias", "head.1.weight"}
    between = states["last-block"] - states["head"]
    assert {name.removeprefix("backbone.network.deit.").split(".")[0] for name in between} == {
        "layers",
        "layernorm",
    }
    assert {name.split(".")[4] for name in between if ".layers." in name} == {"1"}
    assert states["last-block"] < states["full"]
    assert len(states["full"]) == len(list(model.parameters()))


def test_frozen_blocks_never_drop_out() -> None:
    for mode, dropping in (("head", 0), ("last-block", 1), ("full", 2)):
        settings = DeitTinyRandomSettings(mode=mode, dropout=0.5)
        model = build_model(settings, BINARY, (3, 32, 32), seed=0).train()
        blocks = model.backbone.network.deit.layers
        assert [block.training for block in blocks] == [False] * (2 - dropping) + [True] * dropping
        assert model.head.training
        assert not any(module.training for module in model.eval().modules())


def test_a_checkpoint_keeps_its_weights_and_gets_a_new_head(checkpoint: Path) -> None:
    from safetensors.numpy import load_file

    model = build_model(TransformerSettings(name=str(checkpoint)), BINARY, (3, 16, 16), seed=0)
    stored = load_file(checkpoint / "model.safetensors")
    kept = model.backbone.network.state_dict().values()

    def content(arrays):  # names on disk are those of older releases
        return sorted((array.shape, array.tobytes()) for array in arrays)

    assert content(value.numpy() for value in kept) == content(
        value for name, value in stored.items() if not name.startswith("classifier")
    )
    assert count_parameters(model).trainable == 13


def test_other_image_sizes_interpolate_positions(checkpoint: Path) -> None:
    settings = TransformerSettings(name=str(checkpoint), image_size=24)
    preprocess = settings.preprocess(GREY)
    assert preprocess.output_shape((28, 28, 1)) == (3, 24, 24)
    model = build_model(settings, BINARY, (3, 24, 24), seed=0)
    assert model(torch.zeros(1, 3, 24, 24)).shape == (1, 1)


def test_without_a_processor_the_configuration_gives_the_size(checkpoint: Path) -> None:
    preprocess = TransformerSettings(name=str(checkpoint)).preprocess(GREY)
    assert preprocess.resize == (16, 16)
    assert preprocess.mean == (0.485, 0.456, 0.406)


def test_the_checkpoints_image_processor_is_followed(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "with-processor"))
    steps = {
        "image_processor_type": "DeiTImageProcessor",
        "size": 20,
        "crop_size": 16,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(steps))
    preprocess = TransformerSettings(name=str(folder)).preprocess(GREY)
    assert (preprocess.resize, preprocess.crop) == ((20, 20), (16, 16))
    assert (preprocess.resample, preprocess.mean) == ("bicubic", (0.1, 0.2, 0.3))
    smaller = TransformerSettings(name=str(folder), image_size=8).preprocess(GREY)
    assert (smaller.resize, smaller.crop) == ((8, 8), None)


def test_the_identity_is_the_content_not_the_place(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "elsewhere"))
    first, second = (TransformerSettings(name=str(folder)) for folder in (checkpoint, copy))
    assert first.identity() == second.identity()
    assert str(tmp_path) not in json.dumps(second.identity())
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert first.identity() != second.identity()


def test_pickled_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(CheckpointNotFound, match=r"no \*.safetensors file; pickled.*Convert them"):
        build_model(TransformerSettings(name=str(tmp_path)), BINARY, (3, 16, 16), seed=0)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointNotFound, match=r"has no config.json"):
        find_checkpoint(str(tmp_path))


def test_a_missing_checkpoint_names_the_folders_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_DATA", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointNotFound) as raised:
        find_checkpoint("nobody/nothing", "v1")
    message = str(raised.value)
    assert str(tmp_path / "nobody/nothing") in message
    assert "hf download nobody/nothing --revision v1" in message


def test_folders_below_the_data_folder_are_found(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_DATA", str(checkpoint.parent))
    assert find_checkpoint(checkpoint.name) == checkpoint


class Network(nn.Module):
    """Something that is no image classifier of ``transformers``."""

    def __init__(self, classifier: nn.Module | None) -> None:
        super().__init__()
        self.classifier = classifier


def test_networks_without_a_linear_classifier_or_blocks_are_refused() -> None:
    for classifier in (None, nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.ReLU())):
        with pytest.raises(ValueError, match="Network has no linear layer `classifier`"):
            ImageBackbone(Network(classifier))
    backbone = ImageBackbone(Network(nn.Sequential(nn.Flatten(), nn.Linear(7, 2))))
    assert backbone.width == 7
    with pytest.raises(ValueError, match="no list of blocks; use mode head or full"):
        from_last_block(backbone.network)


def test_dinov2_loads_from_real_weights(fedloom_data: Path) -> None:
    settings = TransformerSettings(name=str(fedloom_data / "models/dinov2-small"), image_size=28)
    preprocess = settings.preprocess(GREY)
    model = build_model(settings, BINARY, preprocess.output_shape((28, 28, 1)), seed=0)
    # Class token and the mean of the patches, 384 each.
    assert count_parameters(model).trainable == 2 * 384 + 1
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    with torch.no_grad():
        features = model.backbone(preprocess.apply(images))
    assert features.shape == (2, 768)
    assert not torch.allclose(features[0], features[1])
