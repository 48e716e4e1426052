"""Model settings: what they build, and what they refuse."""

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fedcore.models.build import build_model
from fedcore.models.settings import ModelSettings
from fedcore.models.state import count_parameters
from fedcore.task import Task, TaskKind
from fedcore.training.threads import one_thread

ADAPTER: TypeAdapter = TypeAdapter(ModelSettings)
TEN = Task(TaskKind.MULTICLASS, tuple("0123456789"))
BINARY = Task(TaskKind.BINARY, ("no", "yes"))

# Settings, input shape, task, parameters. 1,663,370: McMahan et al. 2017, section 3.
COUNTS = [
    ({"kind": "logistic"}, (13,), BINARY, 14),
    ({"kind": "mlp", "hidden": [64]}, (64,), TEN, 64 * 64 + 64 + 650),
    ({"kind": "cnn_mcmahan"}, (1, 28, 28), TEN, 1_663_370),
    ({"kind": "cnn_gn"}, (1, 28, 28), BINARY, 224_353),
    ({"kind": "cnn_cifar"}, (3, 32, 32), TEN, 1_756_682),
    # 26,010: Tramer and Boneh 2021, table 8; the head of 81 channels of 7 x 7: their section 3.
    ({"kind": "cnn_tanh"}, (1, 28, 28), TEN, 26_010),
    ({"kind": "scattering"}, (1, 28, 28), TEN, 10 * 81 * 7 * 7 + 10),
    # torchvision's resnet18 has 11,689,512 with 1000 classes and a 7 x 7 stem on 3 channels.
    (
        {"kind": "resnet", "width": 64},
        (3, 28, 28),
        TEN,
        11_689_512 - 513 * 1000 + 5130 - 64 * 3 * (49 - 9),
    ),
    (
        {"kind": "resnet", "width": 64},
        (3, 96, 96),
        TEN,
        11_689_512 - 513 * 1000 + 5130,
    ),
]


@pytest.mark.parametrize(("values", "shape", "task", "expected"), COUNTS)
def test_numbers_of_parameters(values, shape, task, expected) -> None:
    model = build_model(ADAPTER.validate_python(values), task, shape, seed=0)
    assert count_parameters(model).total == count_parameters(model).trainable == expected


IMAGE_MODELS = [
    {"kind": "logistic"},
    {"kind": "mlp", "hidden": [8, 4], "dropout": 0.1},
    {"kind": "cnn_mcmahan"},
    {"kind": "cnn_gn", "width": 4},
    {"kind": "cnn_cifar", "dropout": 0.5},
    {"kind": "cnn_tanh"},
    {"kind": "cnn_tanh", "activation": "relu"},
    {"kind": "scattering"},
    {"kind": "scattering", "scales": 1, "angles": 2, "groups": 3},
    {"kind": "mobilenet"},
    {"kind": "resnet", "depth": 10},
    {"kind": "deit_tiny_random", "dropout": 0.1},
]
TASKS = [
    BINARY,
    TEN,
    Task(TaskKind.MULTILABEL, ("a", "b", "c")),
    Task(TaskKind.ORDINAL, ("low", "middle", "high")),
    Task(TaskKind.REGRESSION, ("age",)),
]


@pytest.mark.parametrize("values", IMAGE_MODELS, ids=lambda values: values["kind"])
def test_every_image_model_maps_any_shape_to_logits_of_any_task(values) -> None:
    settings = ADAPTER.validate_python(values)
    for task, side, channels in zip(TASKS, (28, 32, 21, 28, 28), (1, 3, 1, 3, 1), strict=True):
        features = {"kind": "image", "shape": [side, side, channels]}
        preprocess = settings.preprocess(features)
        shape = preprocess.output_shape((side, side, channels))
        model = build_model(settings, task, shape, seed=1).eval()
        with one_thread():
            assert model(torch.zeros(3, *shape)).shape == (3, task.num_outputs)


def test_identity_is_json_without_surprises_and_no_backbone() -> None:
    settings = ADAPTER.validate_python({"kind": "mlp", "hidden": [3]})
    assert settings.identity() == {"kind": "mlp", "hidden": [3], "dropout": 0.0}
    assert settings.backbone_digest() is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "resnet50"}, r"'resnet50'.*expected tags.*'logistic'.*'transformer'"),
        ({"kind": "mlp", "hidden": []}, "at least 1 item"),
        ({"kind": "mlp", "hidden": [0]}, "greater than or equal to 1"),
        ({"kind": "mlp", "dropout": 1.0}, "less than 1"),
        ({"kind": "mlp", "layers": 3}, "Extra inputs"),
        ({"kind": "deit_tiny_random", "patch_size": 5}, "patch_size=5 must divide image_size=32"),
        ({"kind": "deit_tiny_random", "heads": 5}, "heads=5 must divide width=48"),
        ({"kind": "scattering", "groups": 26}, "groups=26 must divide the 81 channels of scales=2"),
        ({"kind": "cnn_tanh", "activation": "gelu"}, "'tanh' or 'relu'"),
        ({"kind": "transformer", "mode": "tail"}, "'head', 'last-block', 'adapters' or 'full'"),
    ],
)
def test_bad_settings_are_refused(values, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(values)


CNNS = ("cnn_gn", "cnn_mcmahan", "cnn_cifar", "cnn_tanh", "scattering", "mobilenet", "resnet")


def test_an_image_model_refuses_a_table() -> None:
    for kind in CNNS:
        with pytest.raises(ValueError, match=rf"kind='{kind}' reads images.*input_shape=\(13,\)"):
            build_model(ADAPTER.validate_python({"kind": kind}), BINARY, (13,), seed=0)
    for kind in ("deit_tiny_random", "transformer"):
        with pytest.raises(ValueError, match=rf"kind='{kind}' reads images; the data is a table"):
            ADAPTER.validate_python({"kind": kind}).preprocess({"kind": "table", "names": ["a"]})


@pytest.mark.parametrize(
    ("values", "least"),
    [({"kind": "cnn_tanh"}, 16), ({"kind": "scattering", "scales": 3, "groups": 1}, 16)],
)
def test_an_image_of_the_least_size_is_read_and_a_smaller_one_refused(values, least) -> None:
    settings = ADAPTER.validate_python(values)
    build_model(settings, BINARY, (1, least, least), seed=0)
    with pytest.raises(ValueError, match=rf"at least {least} pixels.*input_shape=\(1, 16, 15\)"):
        build_model(settings, BINARY, (1, 16, 15), seed=0)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with two entry points, as pip would leave it."""
    (tmp_path / "their_models.py").write_text(
        "import torch\n"
        "def halves(task, input_shape, *, width):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(input_shape[0], width),\n"
        "                               torch.nn.Linear(width, task.num_outputs))\n"
        "def nothing(task, input_shape):\n"
        "    return 3\n"
    )
    info = tmp_path / "their_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fedloom.models]\nhalves = their_models:halves\nnothing = their_models:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugin")
def test_a_plugin_builds_a_model_from_yaml_options() -> None:
    values = {"kind": "plugin", "name": "halves", "options": {"width": 3}}
    settings = ADAPTER.validate_python(values)
    model = build_model(settings, BINARY, (4,), seed=0)
    assert count_parameters(model).total == 4 * 3 + 3 + 3 + 1
    features = {"kind": "image", "shape": [28, 28, 3]}
    assert settings.preprocess(features).output_shape((28, 28, 3)) == (3, 28, 28)
    assert settings.identity()["options"] == {"width": 3}


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_is_no_model_or_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"made a int; its factory must return a torch.nn.Module"):
        build_model(ADAPTER.validate_python({"kind": "plugin", "name": "nothing"}), BINARY, (4,), 0)
    with pytest.raises(ValueError, match=r"'other' is not an installed.*halves, nothing"):
        build_model(ADAPTER.validate_python({"kind": "plugin", "name": "other"}), BINARY, (4,), 0)
