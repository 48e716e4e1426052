"""Runs and model versions in MLflow, on SQLite files without a server."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

import fedcore
from fedcore import rng, tensors
from fedcore.attacks.found import Found
from fedcore.attacks.one_run import OneRun
from fedcore.attacks.verdict import Verdict
from fedcore.data.encoding import TableEncoding
from fedcore.data.own import own_provenance
from fedcore.data.text_bytes import unpack
from fedcore.digests import digest_arrays, digest_bytes, digest_json
from fedcore.task import Task, TaskKind
from tasks.registry import tags
from tasks.registry.artifacts import read_run, run_report
from tasks.registry.card import model_card
from tasks.registry.champion import Comparison, score_intervals
from tasks.registry.connection import RegistryUnavailable, registry
from tasks.registry.entities import MAX_PARAM_VALUE, flatten_config, metric_values
from tasks.registry.finished_run import AuditFiles, CentralScores, FinishedRun
from tasks.registry.lineage import lineage, report
from tasks.registry.log_run import log_run
from tasks.registry.model_folder import input_example, signature, write_model
from tasks.registry.model_version import MAX_DESCRIPTION, register_version
from tasks.registry.privacy_gate import PromotionRefused, why_refused
from tasks.registry.promote import promote, roll_back
from tasks.registry.serving import model_inputs

ENCODING = TableEncoding(numeric=("age", "chol"), categorical=(("cp", ("1", "2", "3")),))
CLIENTS = ("cleveland", "hungary")


def ref(content):
    return {"digest": digest_json(content), "size": 1, "kind": "test"}


def model_record(params):
    data = tensors.encode(params)
    return {"digest": digest_bytes(data), "size": len(data), "kind": "model"}


def finished(
    kind="table", *, run_id="run-1", seed=42, clients=CLIENTS, gain=0.0, rounds=2, **sections
):
    """A run that nobody ran: a chain that holds together, and a linear model."""
    generator = rng.stream(seed, "registry-test", run_id)
    is_image = kind == "image"
    width, outputs = (48, 3) if is_image else (5, 1)
    task = (
        Task(TaskKind.MULTICLASS, ("cat", "dog", "owl"))
        if is_image
        else Task(TaskKind.BINARY, ("healthy", "ill"))
    )
    params = {
        "1.weight": generator.normal(size=(outputs, width)).astype(np.float32),
        "1.bias": np.zeros(outputs, np.float32),
    }
    preprocess = {"kind": "table", "mean": [], "std": []}
    if is_image:
        preprocess = {"kind": "image", "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    scaling = {
        client: {
            "kind": "table",
            "mean": [50.0 + 5 * i, 200.0, 0, 0, 0],
            "std": [10.0, 50, 1, 1, 1],
        }
        for i, client in enumerate(("_central", *clients))
    }
    config = {
        "seed": seed,
        "model": {"kind": "logistic"},
        "strategy": {"kind": "fedavg"},
        "registry": {"model_name": "", "experiment": "fedloom", "register_model": True},
        **sections,
    }
    header = {
        "config": config,
        "task": task.to_json(),
        "features": {"kind": "image", "shape": [4, 4, 3]} if is_image else ENCODING.features(),
        "preprocess": preprocess,
        "scaling": {} if is_image else scaling,
        "input_shape": [3, 4, 4] if is_image else [5],
        "federation": {
            "clients": {
                client: {
                    "blobs": {"train": ref(client)},
                    "sizes": {"train": 30},
                    "labels": [20, 10],
                }
                for client in clients
            }
        },
        "initial": {"params": ref("initial"), "state": None},
        "identity": {
            "config": digest_json(config),
            "dataset": "toy-images" if is_image else "toy-heart",
            "fingerprint": digest_json(kind),
            "partition": digest_json("partition"),
            "code": digest_json("code"),
            "backbone": None,
            "provenance": {"source": "invented"},
        },
    }
    measured = {
        "overall": {"loss": 0.5, "accuracy": 0.8 + gain, "auc": 0.9, "num_examples": 100},
        "clients": {
            client: {"loss": 0.4 + 0.01 * i, "accuracy": 0.9 - 0.1 * i + gain, "num_examples": 50}
            for i, client in enumerate(clients)
        },
    }
    val = {
        "overall": {"accuracy": 0.8},
        "clients": {
            client: {"accuracy": each["accuracy"]} for client, each in measured["clients"].items()
        },
    }
    records, previous = [], digest_json(header)
    for number in range(1, rounds + 1):
        outcomes = {
            client: {"status": "done", "update": digest_json([number, client]), "num_examples": 30}
            for client in clients
        }
        outcomes[clients[0]] = {"status": "failed", "reason": "ValueError: loss is NaN"}
        records.append({
            "round": number,
            "previous": previous,
            "outcomes": outcomes,
            "model": model_record(params) if number == rounds else ref(number),
            "metrics": {"val": val, "test": measured},
        })  # fmt: skip
        previous = digest_json(records[-1])
    targets = generator.integers(len(task.labels), size=100)
    right = np.arange(100) < 80 + 100 * gain
    if is_image:
        scores = np.eye(3)[np.where(right, targets, (targets + 1) % 3)] * 0.9 + 0.03
    else:
        targets = np.arange(100) % 2
        scores = np.where(right, targets, 1 - targets)[:, None] * 0.8 + 0.1
    return FinishedRun(
        run_id=run_id,
        header=json.loads(json.dumps(header)),
        records=records,
        round=rounds,
        params=params,
        evaluation={"test": measured},
        audit=AuditFiles({"findings": []}, "<html></html>", "# Data audit: toy\n\nNo finding."),
        manifest=b"PAR1",
        partition_picture=b"\x89PNG",
        test=CentralScores(scores.astype(np.float32), targets),
    )


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """An MLflow database with its tables; making them takes seconds, a copy none."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    with registry(f"sqlite:///{path}") as client:
        client.search_experiments()
    return path


@pytest.fixture
def server(empty_database, tmp_path):
    """The tracking URI of an MLflow of its own."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def with_champion(published, tmp_path):
    """The URI of a copy of ``published`` whose only version is the champion."""
    shutil.copy(published.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    promote(uri, "fedloom-toy-heart@challenger", who="A. Smith", why="first")
    return uri


@pytest.fixture
def two_versions(server):
    """The URI of an MLflow with two bare versions, the second the challenger."""
    with registry(server) as client:
        client.create_registered_model("toy")
        for _ in range(2):
            client.create_model_version("toy", source="models/none")
        client.set_registered_model_alias("toy", "challenger", "2")
    return server


def publish(server, run):
    mlflow_run_id = log_run(server, run)
    return mlflow_run_id, register_version(server, run, mlflow_run_id)


@pytest.fixture(scope="module")
def published(empty_database, tmp_path_factory):
    """The URI of an MLflow that holds run-1 and its version; for tests that only read."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    publish(uri, finished())
    return uri


# -- logging -------------------------------------------------------------------------------------


def test_a_run_is_logged_with_parameters_metrics_tags_and_files(published):
    run = finished()
    with registry(published) as client:
        mlflow_run_id = client.get_model_version(run.model_name, "1").run_id
        found = client.get_run(mlflow_run_id)
        assert found.info.status == "FINISHED"
        assert found.info.run_name == "toy-heart-fedavg-42"
        assert found.data.params["strategy.kind"] == "fedavg"
        assert run.tags.items() <= found.data.tags.items()
        assert found.data.metrics["test/accuracy"] == pytest.approx(0.8)
        assert found.data.metrics["test/accuracy/worst_client"] == pytest.approx(0.8)
        assert found.data.metrics["test/loss/worst_client"] == pytest.approx(0.41)
        assert found.data.metrics["val/accuracy/client/cleveland"] == pytest.approx(0.9)
        assert found.data.metrics["model/test/accuracy"] == pytest.approx(0.8)
        assert found.data.metrics["model/test/accuracy/worst_client"] == pytest.approx(0.8)
        history = client.get_metric_history(mlflow_run_id, "clients/done")
        assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 1.0)]
        folders = {"", "audit", "chain", "data", "evaluation", "partition"}
        names = {
            item.path
            for folder in folders
            for item in client.list_artifacts(mlflow_run_id, folder or None)
        }
        assert {
            "config.yaml", "curves.png", "report.md", "audit/audit.json", "audit/audit.html",
            "chain/header.json", "chain/rounds.jsonl", "partition/manifest.parquet",
            "partition/partition.png", "evaluation/test_scores.safetensors",
        } <= names  # fmt: skip
        logged = read_run(client, mlflow_run_id)
        assert list(logged.records) == run.records
        assert logged.header == run.header
        assert found.inputs.dataset_inputs[0].dataset.name == "toy-heart"


def test_a_second_call_makes_nothing_new(server):
    run = finished()
    first = publish(server, run)
    assert publish(server, run) == first
    with registry(server) as client:
        assert len(client.get_metric_history(first[0], "test/loss")) == 2
        assert len(client.search_model_versions(f"name = '{run.model_name}'")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["log_artifacts", "create_model_version"])
def test_a_call_that_was_cut_off_is_completed_by_the_next(server, monkeypatch, broken):
    from mlflow import MlflowClient

    def fail(*_args, **_kwargs):
        raise ConnectionError("gone")

    run = finished()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, broken, fail)
        with pytest.raises(RegistryUnavailable, match="gone"):
            publish(server, run)
    mlflow_run_id, version = publish(server, run)
    with registry(server) as client:
        experiments = [each.experiment_id for each in client.search_experiments()]
        assert len(client.search_runs(experiments)) == 1
        assert len(client.search_logged_models(experiments)) == 1
        assert len(client.get_metric_history(mlflow_run_id, "test/loss")) == 2
    assert version.version == "1"


def test_a_server_that_does_not_answer_is_told_at_once():
    with pytest.raises(RegistryUnavailable, match=r"127.0.0.1:9 does not answer.*log it again"):
        log_run("http://127.0.0.1:9", finished())


def test_a_config_is_flat_and_within_the_limits():
    flat = flatten_config({"a": {"b c[0]": 1, "d": {}}, "e": "x" * 7000, "f": None})
    assert flat["a.b c_0_"] == "1"
    assert flat["a.d"] == "{}"
    assert flat["f"] == "null"
    assert len(flat["e"]) == MAX_PARAM_VALUE


def test_with_very_many_clients_only_the_worst_is_a_curve():
    run = finished(clients=tuple(f"c{i:03d}" for i in range(101)), gain=-0.1)
    keys = {key for key, _, _ in metric_values(run.records)}
    assert "test/accuracy/worst_client" in keys
    assert not any("/client/" in key for key in keys)
    assert "clients/done" in keys


# -- the version ---------------------------------------------------------------------------------


def test_a_version_is_a_challenger_with_tags_signature_example_and_card(published):
    import mlflow

    run = finished()
    with registry(published) as client:
        found = client.get_model_version_by_alias("fedloom-toy-heart", "challenger")
        assert str(found.version) == "1"
        assert run.tags.items() <= found.tags.items()
        assert found.tags[tags.EPSILON] == "none (not private)"
        card = found.description
        model = client.get_logged_model(found.tags[tags.LOGGED_MODEL])
        assert {metric.key for metric in model.metrics} >= {"model/test/accuracy", "model/test/auc"}
    for text in (
        "There is no champion yet.",
        "| accuracy | 0.800 | 0.",
        "0.800 (hungary)",
        "## Data audit\n\nNo finding.",
        '```\neval "$(fedloom stack env)"\nmlflow artifacts download',
        f"--run-id {found.run_id}",
        "fedloom run config.yaml",
        "none (not private)",
        run.model_digest,
    ):
        assert text in card
    folder = Path(model.artifact_location.removeprefix("file://"))
    about = mlflow.models.Model.load(str(folder))
    assert [column.name for column in about.signature.inputs] == ["age", "chol", "cp"]
    assert about.load_input_example(str(folder)).to_dict("records") == [
        {"age": 0.0, "chol": 0.0, "cp": "1"}
    ]


def test_the_card_of_own_data_says_where_it_is_looked_for():
    run = finished()
    none_yet = Comparison(None)
    assert "FEDLOOM_DATA" not in model_card(run, none_yet, "0", MAX_DESCRIPTION)
    run.header["identity"]["provenance"] = own_provenance([], "", {})
    assert "First set FEDLOOM_DATA to the" in model_card(run, none_yet, "0", MAX_DESCRIPTION)


def test_the_card_of_a_private_run_says_that_its_noise_is_of_the_owners():
    run, none_yet = finished(), Comparison(None)
    said = "with others the model is another one"
    for secret in ("owner", "fixed"):
        run.header["config"]["privacy"] = {"kind": "example", "secret": secret}
        assert (said in model_card(run, none_yet, "0", MAX_DESCRIPTION)) == (secret == "owner")


def test_scores_of_rows_that_nobody_has_together_are_called_means():
    run, none_yet = finished(), Comparison(None)
    said = "Overall scores are means over clients, weighted by their samples"
    for each, is_said in ((run, False), (replace(run, test=None), True)):
        assert (said in model_card(each, none_yet, "0", MAX_DESCRIPTION)) == is_said
        assert (f"> {said}" in run_report(each, b"")) == is_said


def test_the_challenger_is_compared_with_the_champion(with_champion):
    _, version = publish(with_champion, finished(run_id="run-2", gain=0.1))
    with registry(with_champion) as client:
        card = client.get_model_version(version.name, version.version).description
    assert "accuracy: better (0.100 [" in card
    assert "| overall | accuracy | 0.900 | 0.800 | +0.100 |" in card
    assert "| worst client | accuracy | 0.900 | 0.800 | +0.100 | - |" in card
    assert "| hungary | accuracy | 0.900 | 0.800 | +0.100 | - |" in card


def test_an_equal_challenger_claims_nothing(with_champion):
    _, version = publish(with_champion, finished(run_id="run-2"))
    with registry(with_champion) as client:
        card = client.get_model_version(version.name, version.version).description
    assert "accuracy: no clear difference (0.000 [0.000, 0.000])" in card
    assert "better (" not in card


def test_other_test_data_are_not_compared(with_champion):
    other = finished(run_id="run-2")
    other.header["identity"]["fingerprint"] = "f" * 64
    _, version = publish(with_champion, other)
    with registry(with_champion) as client:
        card = client.get_model_version(version.name, version.version).description
    assert "Not comparable with champion 1: it was tested on other data" in card
    assert "## Against champion" not in card


def test_a_card_keeps_to_the_limit_of_the_registry(server):
    run = finished(clients=tuple(f"hospital-{i:03d}" for i in range(120)), gain=-0.2)
    run = replace(run, audit=AuditFiles({}, "", "- a finding\n" * 2000))
    _, version = publish(server, run)
    with registry(server) as client:
        card = client.get_model_version(version.name, version.version).description
    assert len(card) <= MAX_DESCRIPTION
    assert "fedloom run config.yaml" in card
    assert "audit/audit.html" in card


def test_intervals_are_those_of_the_run_s_seed():
    run = finished()
    assert score_intervals(run) == score_intervals(run)
    interval = score_intervals(run)["accuracy"]
    assert interval.low < 0.8 < interval.high
    assert score_intervals(replace(run, test=None)) == {}


# -- the folder ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["table", "image"])
def model_folder(request, tmp_path_factory):
    run = finished(request.param)
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model(folder, run)
    return run, folder


def test_a_model_of_texts_takes_a_column_of_texts():
    run, features = finished("image"), {"kind": "text", "most_bytes": 12}
    header = {**run.header, "features": features}
    about = signature(replace(run, header=header))
    assert [(one.name, str(one.type)) for one in about.inputs] == [("text", "Any")]
    example = input_example(features)
    assert list(example.columns) == ["text"] and example["text"].str.len().gt(0).all()
    raw = pd.DataFrame({"text": ["na\u0131\u0308ve", "a long text that is cut"]})
    assert unpack(model_inputs(header, raw)) == ["na\u0131\u0308ve", "a long text "]


class Anything:
    """Stands in for whatever a pickle would import."""

    def __init__(self, *_args):
        pass

    def __setstate__(self, state):
        pass


class Harmless(pickle.Unpickler):
    """Reads a pickle without importing anything."""

    def find_class(self, module, name):
        return Anything


def unpickles(path):
    with open(path, "rb") as file:
        try:
            Harmless(file).load()
        except Exception:
            return False
        return True


def test_the_walk_for_pickles_finds_one(tmp_path):
    import torch

    (tmp_path / "model.json").write_bytes(pickle.dumps({"a": np.zeros(3)}))
    torch.save({"a": torch.zeros(3)}, tmp_path / "model.txt")
    assert unpickles(tmp_path / "model.json")
    assert (tmp_path / "model.txt").read_bytes()[:2] == b"PK"


def test_a_model_folder_holds_code_json_and_safetensors_only(model_folder):
    _, folder = model_folder
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    allowed = {".py", ".json", ".yaml", ".txt", ".safetensors"}
    assert {p.suffix for p in files if p.name != "MLmodel"} <= allowed | {""}
    assert [p.name for p in files if not p.suffix] == ["MLmodel"]
    for path in files:
        assert not unpickles(path), path
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x04", b"\x80\x05"), path
        if path.suffix != ".safetensors":
            path.read_text()
    assert "cloudpickle" not in (folder / "MLmodel").read_text()


def test_a_model_folder_names_no_path_of_this_machine(model_folder):
    _, folder = model_folder
    here = (str(folder.parent), str(Path(fedcore.__file__).parent.parent), "/tmp/")
    for path in folder.rglob("*"):
        if path.is_file() and "code" not in path.relative_to(folder).parts:
            text = path.read_bytes().decode(errors="ignore")
            assert not [place for place in here if place in text], path


def frame(cp):
    return pd.DataFrame({"cp": cp, "age": [50, 70, 61], "chol": [200.0, 100.0, 240.5], "more": 1})


def test_a_served_model_says_what_the_arithmetic_says(model_folder):
    import mlflow

    run, folder = model_folder
    model = mlflow.pyfunc.load_model(str(folder))
    weight, bias = run.params["1.weight"], run.params["1.bias"]
    if run.dataset == "toy-images":
        images = rng.stream(1, "images").integers(256, size=(130, 4, 4, 3), dtype=np.uint8)
        answer = model.predict(images)
        inputs = (images.transpose(0, 3, 1, 2).reshape(130, -1) / 255 - 0.5) / 0.5
        expected = run.task.scores(inputs @ weight.T + bias)
        assert list(answer.columns) == [
            "prediction", "probability cat", "probability dog", "probability owl",
        ]  # fmt: skip
        assert answer["prediction"].tolist() == [
            run.task.labels[i] for i in expected.argmax(axis=1)
        ]
        assert answer.iloc[:, 1:].to_numpy() == pytest.approx(expected, abs=1e-5)
        return
    hot = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    raw = np.array([[50, 200], [70, 100], [61, 240.5]])
    for client, shift in (("", 50), ("hungary", 60)):
        inputs = np.concatenate([(raw - [shift, 200]) / [10, 50], hot], axis=1)
        ill = run.task.scores(inputs @ weight.T + bias)[:, 0]
        for cp in ([1, 2, 3], ["1", "2", "3"], [1.0, 2.0, 3.0]):
            answer = model.predict(frame(cp), params={"client": client})
            assert answer["probability ill"].to_numpy() == pytest.approx(ill, abs=1e-5)
            assert answer["probability healthy"].to_numpy() == pytest.approx(1 - ill, abs=1e-5)
            names = np.where(ill >= 0.5, "ill", "healthy").tolist()
            assert answer["prediction"].tolist() == names


def test_wrong_inputs_are_refused_by_name(model_folder):
    import mlflow

    run, folder = model_folder
    model = mlflow.pyfunc.load_model(str(folder))
    if run.dataset == "toy-images":
        with pytest.raises(Exception, match="shape"):
            model.predict(np.zeros((2, 5, 5, 3), np.uint8))
        return
    with pytest.raises(Exception, match="chol"):
        model.predict(frame([1, 2, 3]).drop(columns="chol"))
    with pytest.raises(ValueError, match=r"column 'cp' holds unknown categories \['9'\]"):
        model.predict(frame([1, 2, 9]))
    with pytest.raises(ValueError, match=r"client='mars' is unknown; known are \['cleveland'"):
        model.predict(frame([1, 2, 3]), params={"client": "mars"})


def test_a_pretrained_backbone_is_served_without_its_checkpoint(tmp_path):
    """The checkpoint is gone when the model is loaded; frozen weights are in the model's folder."""
    import mlflow
    import torch
    from pydantic import TypeAdapter
    from transformers import ViTConfig, ViTForImageClassification

    from fedcore.models.build import build_model
    from fedcore.models.settings import ModelSettings
    from fedcore.models.state import trainable_state
    from fedcore.training.train import predict

    config = ViTConfig(
        image_size=16, patch_size=8, hidden_size=12, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "checkpoint")
    settings = {"kind": "transformer", "name": str(tmp_path / "checkpoint"), "revision": "main"}
    settings |= {"mode": "head", "image_size": 16, "dropout": 0.0}
    run = finished("image")
    parsed = TypeAdapter(ModelSettings).validate_python(settings)
    preprocess = parsed.preprocess({"kind": "image", "shape": [4, 4, 3]})
    module = build_model(parsed, run.task, (3, 16, 16), 0)
    params = trainable_state(module)
    run.header["config"]["model"] = settings
    run.header["preprocess"] = preprocess.to_json()
    run.header["input_shape"] = [3, 16, 16]
    others = {n: t.numpy() for n, t in module.state_dict().items() if n not in params}
    write_model(tmp_path / "model", replace(run, params=params, frozen=others))
    images = rng.stream(1, "images").integers(256, size=(5, 4, 4, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = run.task.scores(predict(module, images, preprocess=preprocess, batch_size=5))
    shutil.rmtree(tmp_path / "checkpoint")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert served.predict(images).iloc[:, 1:].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert str(tmp_path) not in next((tmp_path / "model").rglob("serving.json")).read_text()
    assert "transformers==" in (tmp_path / "model" / "requirements.txt").read_text()


def test_altered_tensors_are_not_served(model_folder, tmp_path):
    import mlflow

    run, folder = model_folder
    copy = shutil.copytree(folder, tmp_path / "copy")
    altered = {name: value + np.float32(1e-3) for name, value in run.params.items()}
    found = next(copy.rglob("params.safetensors"))
    found.write_bytes(tensors.encode(altered))
    with pytest.raises(Exception, match=r"other tensors than were registered"):
        mlflow.pyfunc.load_model(str(copy))


FRESH = """
import importlib.util, sys
sys.path.append({site!r})
for package in ("fedcore", "tasks", "prefect"):
    assert importlib.util.find_spec(package) is None, package
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/fedloom-toy-images@challenger")
print(list(model.predict(np.full((2, 4, 4, 3), 7, np.uint8))))
model = mlflow.pyfunc.load_model("models:/fedloom-toy-heart@challenger")
print(list(model.predict(pd.DataFrame({{"age": [50], "chol": [210.0], "cp": ["2"]}}))))
"""


def link_distributions(site, requirements):
    """Links into ``site`` what ``pip install`` of the requirements would put there, no more."""
    site.mkdir()
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        wanted = todo.pop()
        if (wanted.marker and not wanted.marker.evaluate({"extra": ""})) or wanted.name in seen:
            continue
        seen.add(wanted.name)
        found = metadata.distribution(wanted.name)
        todo += [Requirement(text) for text in found.requires or []]
        for name in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(found.locate_file(name))


@pytest.mark.slow
def test_versions_load_where_only_their_requirements_are_installed(server, tmp_path):
    """Python without its site-packages (-I -S: no project, no editable install) and with nothing
    but the distributions that the folders' requirements name and those that these need."""
    runs = finished("image"), finished("table")
    for run in runs:
        publish(server, run)
    folders = sorted(tmp_path.rglob("requirements.txt"))
    assert len(folders) == 2
    requirements = {line for path in folders for line in path.read_text().split()}
    link_distributions(tmp_path / "site", sorted(requirements))
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FRESH.format(site=str(tmp_path / "site"), uri=server)],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line, run in zip(done.stdout.splitlines()[-2:], runs, strict=True):
        assert line == str(["prediction", *(f"probability {label}" for label in run.task.labels)])


# -- promotion and lineage -----------------------------------------------------------------------


def test_a_promotion_says_who_why_when_and_whom_it_follows(two_versions):
    promote(two_versions, "toy/1", who="A. Smith", why="first")
    promote(two_versions, "models:/toy@challenger", who="B. Jones", why="better")
    with registry(two_versions) as client:
        champion = client.get_model_version_by_alias("toy", "champion")
    assert str(champion.version) == "2"
    assert champion.tags[tags.PROMOTED_BY] == "B. Jones"
    assert champion.tags[tags.PROMOTED_WHY] == "better"
    assert champion.tags[tags.PREVIOUS_CHAMPION] == "1"
    assert champion.tags[tags.PROMOTED_AT].startswith("20")


def test_the_way_back_keeps_every_decision(two_versions):
    for version in ("1", "2"):
        moment = datetime(2026, 1, int(version), tzinfo=UTC)
        promote(two_versions, f"toy/{version}", who="A", why="yes", when=moment)
    back = roll_back(two_versions, "toy", who="B. Jones", why="worse at hungary")
    assert back.version == "1"
    with registry(two_versions) as client:
        found = client.get_model_version_by_alias("toy", "champion")
    decisions = sorted(key for key in found.tags if key.startswith(tags.PROMOTION + "."))
    assert len(decisions) == 2
    assert json.loads(found.tags[decisions[1]])[tags.PROMOTED_WHY] == "worse at hungary"
    assert found.tags[tags.PREVIOUS_CHAMPION] == "2"


@pytest.mark.parametrize(
    ("version", "who", "why", "message"),
    [
        ("fedloom-toy-heart/1", " ", "good", "who='' : a promotion names the person"),
        ("fedloom-toy-heart/1", "A", "", "why='' : a promotion gives its reason"),
        ("fedloom-toy-heart/1", "A", "x" * 3000, "why has 3000 characters; at most 2000"),
        ("fedloom-toy-heart", "A", "good", r"must look like NAME/3 or NAME@challenger"),
        ("fedloom-toy-heart/9", "A", "good", "is no version of fedloom-toy-heart; versions: 1;"),
        ("fedloom-toy-heart@best", "A", "good", "aliases: challenger"),
        ("nothing/1", "A", "good", "no registered model 'nothing'; there are: fedloom-toy-heart"),
    ],
)
def test_a_promotion_that_cannot_be_is_refused(published, version, who, why, message):
    with pytest.raises(ValueError, match=message):
        promote(published, version, who=who, why=why)
    with registry(published) as client:
        assert "champion" not in client.get_registered_model("fedloom-toy-heart").aliases


def test_without_a_champion_before_there_is_no_way_back(two_versions):
    promote(two_versions, "toy/1", who="A", why="first")
    with pytest.raises(ValueError, match="toy/1 has no champion before it"):
        roll_back(two_versions, "toy", who="A", why="no")


def test_a_version_is_traced_to_its_data(published):
    run = finished()
    found = lineage(published, "fedloom-toy-heart@challenger")
    assert found.problems == ()
    text = str(found)
    for part in (
        "version fedloom-toy-heart/1  model " + run.model_digest[:12],
        "run run-1  model of round 2 of 2",
        f"hungary: train 30 in {ref('hungary')['digest'][:12]}",
        f"hungary: update {digest_json([2, 'hungary'])[:12]} from 30 samples",
        "cleveland: failed: ValueError: loss is NaN",
        "every digest agrees",
    ):
        assert part in text


def test_a_changed_link_is_found(server):
    run = finished()
    run.records[0]["outcomes"]["hungary"]["num_examples"] = 31  # after round 2 was chained to it
    publish(server, run)
    found = lineage(server, "fedloom-toy-heart/1")
    assert found.problems == ("round 2 does not follow the record before it",)


def test_changed_tensors_are_found(server, tmp_path):
    run = finished()
    publish(server, run)
    for path in tmp_path.rglob("params.safetensors"):
        path.write_bytes(tensors.encode({k: v + np.float32(1) for k, v in run.params.items()}))
    problems = lineage(server, "fedloom-toy-heart/1").problems
    assert "the registered tensors are not those that the version's tag names" in problems
    assert "the registered tensors are not the model of round 2" in problems


def test_a_report_is_found_by_either_id(published):
    text = report(published, "run-1")
    assert text.startswith("# toy-heart-fedavg-42")
    assert "![Learning curves](data:image/png;base64," in text
    with registry(published) as client:
        mlflow_run_id = client.get_model_version("fedloom-toy-heart", "1").run_id
    assert report(published, mlflow_run_id) == text
    with pytest.raises(LookupError, match="run='unknown' is not in MLflow"):
        report(published, "unknown")


def test_the_final_digest_is_that_of_the_parameters():
    run = finished()
    assert run.tags[tags.MODEL_DIGEST] == digest_arrays(run.params)


# -- the privacy audit as a gate -----------------------------------------------------------------


def attacked(claimed, at_least, run_id="run-1", twin=4.4):
    """A run of which an attack shows at least so much, whatever is claimed."""
    run = finished(run_id=run_id, attacks={"kind": "audit"})
    bound, without = (OneRun(each, 1e-5, 0.95, 1000, 500, 480) for each in (at_least, twin))
    claim = Verdict(claimed, bound, without).to_json() | {"client": "hungary"}
    members = {"auc": {"estimate": 0.71}}
    rows = {"rows": [{"cosine": 0.98}], "picture": None}
    found = {"claim": claim, "membership": members, "reconstruction": rows}
    return replace(run, attacked=Found.from_json(found), reconstructions=b"\x89PNG")


@pytest.fixture(scope="module")
def published_refuted(published, tmp_path_factory):
    """The URI of a copy of ``published`` with a second version, whose claim is refuted."""
    path = tmp_path_factory.mktemp("refuted") / "mlflow.db"
    shutil.copy(published.removeprefix("sqlite:///"), path)
    uri = f"sqlite:///{path}"
    publish(uri, attacked(1.0, 2.3, "run-2"))
    return uri


@pytest.fixture
def refuted(published_refuted, tmp_path):
    """The same for a test that writes."""
    shutil.copy(published_refuted.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_refuted_version_is_registered_for_review_alone(published_refuted):
    with registry(published_refuted) as client:
        found = client.get_model_version("fedloom-toy-heart", "2")
        aliases = client.get_registered_model("fedloom-toy-heart").aliases
        names = {item.path for item in client.list_artifacts(found.run_id, "privacy")}
    assert {name: str(number) for name, number in aliases.items()} == {"challenger": "1"}
    assert names == {"privacy/audit.json", "privacy/reconstructions.png"}
    expected = {
        tags.PRIVACY_AUDIT: "refuted",
        tags.EPSILON_CLAIMED: "1",
        tags.EPSILON_AT_LEAST: "2.3",
        tags.EPSILON_CONFIDENCE: "0.95",
        tags.MEMBERSHIP_AUC: "0.71",
        tags.RECONSTRUCTION_COSINE: "0.98",
    }
    assert expected.items() <= found.tags.items()
    assert "**Not to be promoted: an attack shows more" in found.description
    assert "## What an attacker gets\n\nFAIL: the training claims epsilon 1.00" in found.description
    assert "| membership inference | AUC 0.710; 0.5 tells nothing |" in found.description
    assert "| privacy audit | FAIL: " in report(published_refuted, "run-2")
    history = lineage(published_refuted, "fedloom-toy-heart/2")
    assert history.problems == () and "├─ privacy audit: FAIL: " in str(history)


def test_a_refuted_version_is_not_promoted_whatever_its_tags_say(refuted):
    name, refused = "fedloom-toy-heart", r"heart/2 is not promoted: FAIL: .* at least 2\.30 at 95%"
    with pytest.raises(PromotionRefused, match=refused):
        promote(refuted, f"{name}/2", who="A", why="accurate")
    with registry(refuted) as client:
        client.set_model_version_tag(name, "2", tags.PRIVACY_AUDIT, "not refuted")
        client.set_model_version_tag(name, "2", tags.EPSILON_AT_LEAST, "0.1")
        client.delete_model_version_tag(name, "2", tags.PRIVACY_AUDIT_DIGEST)
    with pytest.raises(PromotionRefused, match=refused):
        promote(refuted, f"{name}/2", who="A", why="accurate")
    # MLflow's own page sets aliases and asks nobody; neither the way back nor lineage follow it.
    with registry(refuted) as client:
        client.set_registered_model_alias(name, "champion", "2")
    promote(refuted, f"{name}/1", who="A", why="better")
    with pytest.raises(PromotionRefused, match=refused):
        roll_back(refuted, name, who="A", why="back")
    with registry(refuted) as client:
        assert str(client.get_registered_model(name).aliases["champion"]) == "1"
        client.set_registered_model_alias(name, "champion", "2")
    problems = lineage(refuted, f"{name}@champion").problems
    assert problems[0] == "what the privacy audit found is not what the version's tag names"
    assert problems[1].startswith("it is the champion, which `fedloom promote` would refuse: FAIL")


@pytest.mark.parametrize(
    ("claimed", "at_least", "change", "why"),
    [
        (3.0, 0.8, {}, None),
        (8.0, 0.8, {}, None),  # inconclusive
        (float("inf"), 4.4, {}, None),  # nothing is claimed
        (3.0, 3.1, {}, "FAIL: the training claims epsilon 3.00"),
        (3.0, 0.8, {tags.PRIVACY_AUDIT_DIGEST: "0" * 64}, "one of them was changed"),
    ],
)
def test_the_numbers_decide_who_may_be_champion(claimed, at_least, change, why):
    run = attacked(claimed, at_least)
    said = why_refused(run.attacked.json, run.tags | change, was_asked=True)
    assert said is None if why is None else why in said


def test_what_was_found_cannot_be_made_to_vanish():
    run = attacked(3.0, 3.1)
    assert "is gone" in why_refused(None, run.tags, was_asked=False)
    assert "is gone" in why_refused(None, {}, was_asked=True)
    assert why_refused(None, finished().tags, was_asked=False) is None


def test_a_card_says_when_an_audit_proves_nothing():
    run = attacked(8.0, 0.8)
    card = model_card(run, Comparison(None), "0", MAX_DESCRIPTION)
    assert not run.is_refuted and run.tags[tags.PRIVACY_AUDIT] == "inconclusive"
    assert "## What an attacker gets\n\nPASS, but this audit proves nothing" in card
    assert "Not to be promoted" not in card
