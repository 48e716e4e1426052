"""Preprocessing: values by hand, equality with the image processors, refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.models.preprocess import (
    ImagePreprocess,
    TablePreprocess,
    preprocess_for,
    preprocess_from_json,
)
from fedcore.models.processor import from_processor
from fedcore.models.settings import GroupNormCnnSettings, LogisticSettings


def test_black_and_white_become_minus_one_and_one() -> None:
    preprocess = preprocess_for(GroupNormCnnSettings(), {"kind": "image", "shape": [1, 2, 1]})
    images = np.array([[[[0], [255]]]], dtype=np.uint8)
    assert preprocess.apply(images).tolist() == [[[[-1.0, 1.0]]]]


def test_grey_is_repeated_and_channels_have_their_own_scale() -> None:
    preprocess = ImagePreprocess(3, (0.0, 0.5, 1.0), (1.0, 0.5, 2.0))
    images = np.full((2, 4, 5, 1), 255, dtype=np.uint8)
    tensor = preprocess.apply(images)
    assert tensor.shape == (2, *preprocess.output_shape((4, 5, 1))) == (2, 3, 4, 5)
    assert tensor[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_tables_are_standardised_or_left_alone() -> None:
    table = np.array([[1.0, 10.0], [3.0, 30.0]], dtype=np.float32)
    scaled = TablePreprocess(mean=(2.0, 20.0), std=(1.0, 5.0))
    assert scaled.apply(table).tolist() == [[-1.0, -2.0], [1.0, 2.0]]
    as_it_is = preprocess_for(LogisticSettings(), {"kind": "table", "names": ["a", "b"]})
    assert as_it_is.apply(table).tolist() == table.tolist()
    assert as_it_is.output_shape((2,)) == (2,)
    assert table[0, 0] == 1.0, "the input is not touched"


@pytest.mark.parametrize(
    "preprocess",
    [
        ImagePreprocess(1, (0.5,), (0.25,), resize=(8, 9), crop=(7, 7), resample="bicubic"),
        TablePreprocess((1.0,), (2.0,)),
        TablePreprocess(),
    ],
)
def test_json_and_back(preprocess) -> None:
    assert preprocess_from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(20, 60),
    width=st.integers(20, 60),
    shortest=st.booleans(),
    resample=st.sampled_from([0, 2, 3]),
    seed=st.integers(0, 99),
)
def test_the_same_as_the_image_processor_of_transformers(
    height, width, shortest, resample, seed
) -> None:
    from transformers import BitImageProcessorPil

    processor = BitImageProcessorPil(
        size={"shortest_edge": 40} if shortest else {"height": 48, "width": 40},
        crop_size={"height": 32, "width": 36},
        resample=resample,
        do_convert_rgb=False,
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.4],
    )
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    ours = from_processor(processor.to_dict(), images.shape[1:]).apply(images)
    theirs = processor(list(images), return_tensors="pt", input_data_format="channels_last")
    torch.testing.assert_close(ours, theirs["pixel_values"], rtol=1e-5, atol=1e-5)


def test_processors_that_cannot_be_repeated_are_refused() -> None:
    base = {"image_mean": [0.5], "image_std": [0.5], "resample": 2}
    with pytest.raises(ValueError, match=r"rescale_factor=1.0 .* not 1/255"):
        from_processor({**base, "rescale_factor": 1.0}, (28, 28, 1))
    with pytest.raises(ValueError, match=r"'longest_edge': 9.*Set image_size"):
        from_processor({**base, "size": {"longest_edge": 9, "shortest_edge": 3}}, (28, 28, 1))
    assert from_processor(
        {**base, "do_normalize": False, "size": {"shortest_edge": 9}}, (9, 9, 1)
    ) == (ImagePreprocess(1, (0.0,), (1.0,), resize=(9, 9)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 8, 8, 1)), "float64.*expected uint8"),
        (np.zeros((2, 8, 8), np.uint8), r"shape \(2, 8, 8\)"),
        (np.zeros((2, 8, 8, 2), np.uint8), "2 channels; the model reads channels=3"),
        (np.zeros((2, 3, 8, 1), np.uint8), r"crop=\(4, 4\) is larger than the image 3 x 8"),
    ],
)
def test_inputs_that_are_no_images_are_refused(inputs, message) -> None:
    half = (0.5,) * 3
    with pytest.raises(ValueError, match=message):
        ImagePreprocess(3, half, half, crop=(4, 4)).apply(inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImagePreprocess(3, (0.5,), (0.5,) * 3), r"mean=\(0.5,\) needs one value per"),
        (lambda: ImagePreprocess(1, (0.5,), (0.0,)), r"std=\(0.0,\) must be positive"),
        (lambda: TablePreprocess((1.0,), ()), "1 means and 0 stds"),
        (lambda: TablePreprocess((1.0,), (0.0,)), "must be positive"),
        (lambda: TablePreprocess((1.0,), (1.0,)).apply(np.zeros((2, 3))), "no table of 1 columns"),
        (lambda: TablePreprocess().apply(np.array([[0.0], [np.nan]])), "first in row 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_transformers_and_the_processor_work_without_torchvision(tmp_path) -> None:
    """In a process of its own, where importing torchvision fails."""
    script = f"""
import sys
sys.modules["torchvision"] = None
from transformers import DeiTConfig, DeiTForImageClassification
DeiTForImageClassification(DeiTConfig(
    image_size=32, patch_size=8, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=12)).save_pretrained({str(tmp_path)!r})
with open({str(tmp_path / "preprocessor_config.json")!r}, "w") as file:
    file.write('{{"image_processor_type": "DeiTImageProcessor", "size": 36, "crop_size": 32}}')
import numpy as np
from fedcore.models.build import build_model
from fedcore.models.settings import TransformerSettings
from fedcore.task import Task, TaskKind
from fedcore.training.train import predict
settings = TransformerSettings(name={str(tmp_path)!r})
preprocess = settings.preprocess({{"kind": "image", "shape": [28, 28, 1]}})
assert (preprocess.resize, preprocess.crop, preprocess.resample) == ((36, 36), (32, 32), "bicubic")
model = build_model(settings, Task(TaskKind.BINARY, ("a", "b")), (3, 32, 32), 0)
print(predict(model, np.zeros((5, 28, 28, 1), np.uint8), preprocess=preprocess).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("(5, 1)")
