"""Batches, class weights, augmentation, optimizers, clipping, threads."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.models.preprocess import ImagePreprocess
from fedcore.task import Task, TaskKind
from fedcore.training.augmentation import augmenter
from fedcore.training.batches import draw_batches
from fedcore.training.class_weights import balanced_weights, label_counts
from fedcore.training.loop import clip_gradients
from fedcore.training.optimizers import adamw, sgd
from fedcore.training.samples import Samples
from fedcore.training.settings import LightAugmentation, NoAugmentation
from fedcore.training.threads import one_thread


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3))
def test_every_epoch_visits_each_sample_once(num_examples, batch_size, epochs) -> None:
    batches = draw_batches(
        np.random.default_rng(0),
        num_examples=num_examples,
        batch_size=batch_size,
        epochs=epochs,
        steps=None,
    )
    visited = torch.cat(batches).reshape(epochs, num_examples)
    assert (visited.sort(dim=1).values == torch.arange(num_examples)).all()
    assert max(len(batch) for batch in batches) <= batch_size


@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 30))
def test_steps_are_counted_in_batches(num_examples, batch_size, steps) -> None:
    batches = draw_batches(
        np.random.default_rng(0),
        num_examples=num_examples,
        batch_size=batch_size,
        epochs=None,
        steps=steps,
    )
    assert len(batches) == steps


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
    targets = np.array([0, 0, 0, 1, 2, 2])
    ours = balanced_weights(task, label_counts(task, targets), len(targets))
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_absent_labels_weigh_one_and_multilabel_counts_negatives_per_positive() -> None:
    task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
    assert balanced_weights(task, np.array([3, 3, 0]), 6)[2] == 1.0
    many = Task(TaskKind.MULTILABEL, ("a", "b", "c"))
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert label_counts(many, targets).tolist() == [1, 0, 4]
    assert balanced_weights(many, label_counts(many, targets), 4).tolist() == [3.0, 1.0, 1.0]


def test_a_regression_has_no_classes_to_weigh() -> None:
    task = Task(TaskKind.REGRESSION, ("age",))
    assert label_counts(task, np.zeros(3, np.float32)).tolist() == []
    with pytest.raises(ValueError, match="regression has none"):
        balanced_weights(task, np.zeros(0), 3)


def _images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(6, 1, 9, 7)).astype(np.float32))


def test_augmentation_is_a_function_of_its_stream() -> None:
    first, again, other = (
        augmenter(LightAugmentation(), np.random.default_rng(seed))(_images()) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == _images().shape


def test_augmentation_of_size_zero_changes_nothing_and_mirrors_turn_half_around() -> None:
    still = {"shift": 0.0, "degrees": 0.0, "brightness": 0.0}
    images = _images()
    assert augmenter(NoAugmentation(), np.random.default_rng(0))(images) is images
    plain = augmenter(LightAugmentation(**still, mirrors=False), np.random.default_rng(0))
    torch.testing.assert_close(plain(images), images, atol=1e-5, rtol=1e-5)
    mirrored = augmenter(LightAugmentation(**still), np.random.default_rng(0))(images)
    is_same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(mirrored, images, strict=True)]
    is_mirrored = [
        torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(mirrored, images, strict=True)
    ]
    assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
    assert any(is_same) and any(is_mirrored)


def test_a_shift_moves_by_parts_of_the_side() -> None:
    class Shift:
        """Draws the largest shift to the right: theta is in half sides."""

        def uniform(self, low, high, size):
            return np.full(size, high)

        def random(self, size):
            return np.ones(size)

    image = torch.arange(10.0).reshape(1, 1, 1, 10).repeat(1, 1, 10, 1)
    light = LightAugmentation(shift=0.1, degrees=0.0, brightness=0.0)
    moved = augmenter(light, Shift())(image)  # type: ignore[arg-type]
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([*range(1, 10), 9.0]))


def test_tables_are_not_augmented() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\). Use none for tables"):
        augmenter(LightAugmentation(), np.random.default_rng(0))(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        ),
        (sgd(learning_rate=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (
            adamw(learning_rate=0.01, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        ),
    ],
)
def test_optimizers_step_as_those_of_torch(ours, theirs) -> None:
    start = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
    mine = [tensor.clone() for tensor in start]
    reference = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = theirs(reference)
    for step in range(4):
        gradients = [tensor.sin() + step for tensor in mine]
        for parameter in reference:
            parameter.grad = parameter.detach().sin() + step
        ours(mine, gradients)
        optimizer.step()
    torch.testing.assert_close(mine, [parameter.detach() for parameter in reference])


def test_clipping_scales_to_the_norm_over_all_tensors() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    clip_gradients(gradients, 10.0)
    assert [g.item() for g in gradients] == [3.0, 4.0]
    clip_gradients(gradients, 1.0)
    torch.testing.assert_close(gradients, [torch.tensor([0.6]), torch.tensor([[0.8]])])


def test_one_thread_is_restored_even_after_an_error() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_preprocessing_at_once_and_by_batch_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess = ImagePreprocess(3, (0.5,) * 3, (0.25,) * 3, resize=(9, 9))
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 1), dtype=np.uint8)
    order = torch.tensor([3, 0, 3])
    at_once = Samples(images, preprocess).batch(order)
    monkeypatch.setattr("fedcore.training.samples.KEPT_BYTES", 0)
    by_batch = Samples(images, preprocess)
    assert torch.equal(by_batch.batch(order), at_once)
    assert len(by_batch) == 5
