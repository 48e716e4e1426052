"""Metrics against hand counts and scikit-learn; tasks' losses against their definitions."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from fedcore.evaluation import measure, pooled, summarise
from fedcore.task import Task, TaskKind

BINARY = Task(TaskKind.BINARY, ("no", "yes"))
THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
ORDINAL = Task(TaskKind.ORDINAL, ("0", "1", "2"))
LABELS = Task(TaskKind.MULTILABEL, ("x", "y"))
NUMBER = Task(TaskKind.REGRESSION, ("mm",))


def test_binary_by_hand():
    logits = np.array([[2.0], [-1.0], [1.0], [-3.0]])
    found = measure(BINARY, logits, np.array([1, 1, 0, 0]))
    assert found["accuracy"] == 0.5 and found["balanced_accuracy"] == 0.5
    assert found["auc"] == 0.75  # of the four pairs only (-1 for a yes, 1 for a no) is wrong
    losses = [math.log1p(math.exp(-2)), math.log1p(math.e), math.log1p(math.e)]
    assert found["loss"] == pytest.approx((sum(losses) + math.log1p(math.exp(-3))) / 4)


@pytest.mark.parametrize("decimals", [1, 8])
def test_auc_equals_scikit_learn_with_and_without_ties(decimals):
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(300, 1)).round(decimals), rng.integers(0, 2, 300)
    expected = sk.roc_auc_score(targets, BINARY.scores(logits)[:, 0])
    assert measure(BINARY, logits, targets)["auc"] == pytest.approx(expected, rel=1e-12)


def test_multiclass_equals_scikit_learn():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    found = measure(THREE, logits, targets)
    scores = THREE.scores(logits)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(targets, scores, multi_class="ovr"))
    predicted = scores.argmax(axis=1)
    expected = sk.balanced_accuracy_score(targets, predicted)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert found["loss"] == pytest.approx(sk.log_loss(targets, scores))


def test_ordinal_also_says_how_far_off():
    logits = np.eye(3)[[0, 2, 2]] * 9
    assert measure(ORDINAL, logits, np.array([0, 0, 2]))["mean_absolute_error"] == pytest.approx(
        2 / 3
    )


def test_multilabel_means_over_labels():
    logits = np.array([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 1]])
    found = measure(LABELS, logits, targets)
    assert found["accuracy"] == 6 / 8
    assert found["auc"] == pytest.approx((1.0 + 0.5) / 2)


def test_regression():
    found = measure(NUMBER, np.array([[1.0], [3.0]]), np.array([1.0, 1.0], np.float32))
    assert found["loss"] == 1.0 and found["mean_absolute_error"] == 1.0


def test_what_the_targets_cannot_define_is_left_out():
    assert "auc" not in measure(BINARY, np.array([[1.0], [2.0]]), np.array([1, 1]))
    assert "r2" not in measure(NUMBER, np.array([[1.0]]), np.array([1.0], np.float32))
    with pytest.raises(ValueError, match="0 samples"):
        measure(BINARY, np.zeros((0, 1)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="the model diverged"):
        measure(BINARY, np.array([[np.nan]]), np.array([1]))


def test_extreme_logits_stay_finite():
    for task, targets in ((BINARY, [0, 1]), (LABELS, [[0, 1], [1, 0]]), (THREE, [0, 2])):
        logits = np.array([[1e4] * task.num_outputs, [-1e4] * task.num_outputs])
        assert np.isfinite(task.scores(logits)).all()
        assert np.isfinite(measure(task, logits, np.array(targets))["loss"])


def test_worst_client_and_the_weighted_mean():
    clients = {
        "b": {"accuracy": 0.5, "loss": 2.0, "num_examples": 1},
        "a": {"accuracy": 0.5, "loss": 1.0, "num_examples": 3},
        "c": {"loss": 0.5, "num_examples": 4},
    }
    assert summarise(clients, "accuracy") == ("a", 0.5)
    assert summarise(clients, "loss") == ("b", 2.0)
    assert summarise(clients, "auc") is None
    assert pooled(clients) == {"accuracy": 0.5, "loss": (2.0 + 3.0 + 2.0) / 8}


def test_class_weights_equal_repeating_samples():
    logits = torch.tensor([[0.3], [-0.7], [1.1]])
    targets = torch.tensor([0, 1, 1])
    weighted = BINARY.loss(logits, targets, torch.tensor([2.0, 1.0]))
    repeated = BINARY.loss(logits[[0, 0, 1, 2]], targets[[0, 0, 1, 2]])
    assert weighted.item() == pytest.approx(repeated.item())


@pytest.mark.parametrize("task", [BINARY, THREE, ORDINAL, LABELS, NUMBER])
def test_tasks_survive_json_and_have_strata(task):
    assert Task.from_json(task.to_json()) == task
    targets = np.zeros((4, 2), np.int64) if task is LABELS else np.zeros(4)
    assert task.strata(targets).shape == (4,) and task.strata(targets).dtype == np.int64


def test_a_task_with_the_wrong_number_of_labels_is_refused():
    with pytest.raises(ValueError, match="a binary task needs exactly 2"):
        Task(TaskKind.BINARY, ("a",))
    with pytest.raises(ValueError, match="needs at least one label"):
        Task(TaskKind.MULTICLASS, ())
