"""The benchmark scripts: what they count, and that their configurations are there. No numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import breast, heart_disease, mnist_rounds, pneumonia, private_mnist
from benchmarks.cross_validation import cross_validate, fold_datasets, folds_of
from benchmarks.harness import CONFIGS, ROOT, Measured, config_of, runner
from benchmarks.report import spread, write_report
from fedcore.config import make_config
from fedcore.data.dataset import Split
from fedcore.privacy.accounting import Epsilon
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("no", "yes"))
TINY = {
    "data": {"kind": "breast_cancer"},
    "partition": {"kind": "iid", "clients": 2},
    "model": {"kind": "logistic"},
    "training": {"kind": "loop"},
    "rounds": {"count": 1},
}


@pytest.mark.parametrize(
    "name",
    [
        *(published.config for published in heart_disease.PUBLISHED.values()),
        heart_disease.OURS,
        pneumonia.CONFIG,
        pneumonia.RESNET,
        *breast.PIPELINES.values(),
        *mnist_rounds.CONFIGS.values(),
        "mnist-private",
        "mnist-private-cnn",
        "fashionmnist-private",
        "pneumoniamnist-private",
    ],
)
def test_benchmarked_configurations_are_shipped_and_say_how_to_run_them(name):
    assert config_of(name).name == name
    (file,) = CONFIGS.glob(f"*/{name}.yaml")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#")
    assert f"fedloom run {file.relative_to(ROOT)}" in text


def test_every_private_case_is_a_configuration_of_its_own_and_its_twin_is_not_private():
    for study in private_mnist.STUDIES.values():
        configs = {name: config_of(case.config, case.changes) for name, case in study.cases.items()}
        assert len({config.digest for config in configs.values()}) == len(study.cases)
        twins = {case.twin for case in study.cases.values()} - {""}
        assert {n for n, c in configs.items() if c.privacy.kind == "none"} == twins


def test_a_private_case_is_judged_by_its_mean_and_by_what_it_lost(tmp_path):
    def run(config):
        loses = 0.0 if config.privacy.kind == "none" else 0.035
        spent = None if config.privacy.kind == "none" else Epsilon(2.9, 2.8)
        metrics = {"test": {"overall": {"auc": 0.95 - loses}, "clients": {}}}
        return Measured("m", config.seed, "", "", 1, metrics, {}, None, None, 1.0, spent)

    private_mnist.report(run, tmp_path, "pneumoniamnist")
    text = (tmp_path / "private-pneumoniamnist.md").read_text()
    assert "less than 0.03 lost | missed" in text and "2.80 | 2.90" in text
    kept = json.loads((tmp_path / "private-pneumoniamnist.json").read_text())["cases"]
    assert kept["epsilon 8"]["runs"][0]["epsilon"] == {"rdp": 2.9, "prv": 2.8}
    assert "epsilon" not in kept["no privacy"]["runs"][0]


def test_the_shipped_heart_configuration_is_in_the_grid_it_was_chosen_from():
    digests = {config_of(heart_disease.OURS, point).digest for point in heart_disease.GRID}
    assert len(digests) == len(heart_disease.GRID)
    assert config_of(heart_disease.OURS).digest in digests


def test_folds_hold_each_owner_and_label_evenly():
    rng = np.random.default_rng(0)
    owners = rng.choice(["a", "b", "c"], 200, p=[0.6, 0.3, 0.1])
    targets = rng.integers(0, 2, 200)
    folds = folds_of(Split(np.zeros((200, 1), np.float32), targets, owners), BINARY, 5, seed=0)
    for owner in "abc":
        sizes = np.bincount(folds[owners == owner], minlength=5)
        assert sizes.max() - sizes.min() <= 1
        for label in (0, 1):
            held = np.bincount(folds[(owners == owner) & (targets == label)], minlength=5)
            assert held.max() - held.min() <= 1


def test_folds_cover_the_training_rows_once_and_no_test_row():
    config = make_config(TINY)
    dataset = config.data.load(None)
    parts = list(fold_datasets(dataset, config, 4, seed=1))
    assert [sorted(part.splits) for part in parts] == [["train", "val"]] * 4
    seen = np.concatenate([part.splits["val"].inputs for part in parts])
    train = dataset.splits["train"].inputs
    assert sorted(map(bytes, seen)) == sorted(map(bytes, train))
    for part in parts:
        assert len(part.splits["train"]) + len(part.splits["val"]) == len(train)


def test_cross_validation_tells_a_model_that_learns_from_one_that_cannot(tmp_path):
    config = make_config(TINY, {"training.learning_rate": 0.1})
    learns = cross_validate(config, tmp_path, folds=2)
    cannot = cross_validate(make_config(TINY, {"training.learning_rate": 1e-9}), tmp_path, folds=2)
    assert learns.accuracy > max(0.8, cannot.accuracy)
    assert learns.loss < cannot.loss


def test_runner_measures_a_run_and_its_repetition_alike(tmp_path):
    with runner(tmp_path, 0) as run:
        first, second = run(make_config(TINY)), run(make_config(TINY))
    assert first.final == second.final
    assert first.test("accuracy") == second.test("accuracy")
    assert first.scores is not None and first.targets is not None
    accuracy = ((first.scores[:, 0] > 0.5) == first.targets).mean()
    assert accuracy == pytest.approx(first.test("accuracy"))
    assert heart_disease.right([first, second]).mean() == pytest.approx(accuracy)
    assert json.loads(json.dumps(first.to_json()))["final"] == first.final


def test_rounds_to_is_the_first_round_that_gets_there():
    history = {r: {"test": {"accuracy": a}} for r, a in ((1, 0.5), (3, 0.99), (2, 0.98), (4, 1.0))}
    assert mnist_rounds.rounds_to(history) == 3
    assert mnist_rounds.rounds_to(history, 0.98) == 2
    assert mnist_rounds.rounds_to({1: {"test": {"accuracy": 0.9}}}) is None


def test_until_target_stops_when_it_is_reached_and_at_the_limit():
    def run(config):
        asked.append(config.rounds.count)
        history = {
            r: {"test": {"accuracy": 0.99 if r >= 6 else 0.5}}
            for r in range(1, config.rounds.count + 1)
        }
        return replace(measured, history=history)

    from benchmarks.harness import Measured

    measured = Measured("mnist", 0, "c", "f", 1, {}, {}, None, None, 0.0)
    asked: list[int] = []
    mnist_rounds.until_target(run, "mnist", 0.1, limit=44, stride=4)
    assert asked == [4, 8]
    asked.clear()
    mnist_rounds.until_target(run, "mnist", 0.1, limit=5, stride=4)
    assert asked == [4, 5]


def test_reports_name_releases_and_no_machine(tmp_path):
    import platform

    write_report(tmp_path, "x", "Title", ["body"], {"seeds": [1]})
    text = (tmp_path / "x.md").read_text() + (tmp_path / "x.json").read_text()
    assert "Title" in text and "torch" in text
    assert platform.node() not in text
    assert spread([0.5]) == "0.500"
