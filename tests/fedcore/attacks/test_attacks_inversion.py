"""Gradient inversion: exact where it must be, defeated by noise and not by clipping."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fedcore.attacks.inversion import first_linear, invert_gradient, invert_linear
from fedcore.attacks.likeness import best_match, cosine, psnr, ssim
from fedcore.attacks.picture import reconstruction_picture
from fedcore.models.mlp import mlp
from fedcore.models.state import trainable_parameters
from fedcore.privacy.clip_and_noise import clipped
from fedcore.task import Task, TaskKind

TASK = Task(TaskKind.MULTICLASS, tuple("0123456789"))


def digit(index=3):
    """An 8 x 8 digit in [-1, 1]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images[index][None] / 8 - 1).astype(np.float32), int(digits.target[index])


def update_of(model, image, target):
    loss = TASK.loss(model(torch.from_numpy(image)[None]), torch.tensor([target]))
    parameters = trainable_parameters(model)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return {name: g.numpy() for name, g in zip(parameters, gradients, strict=True)}


def linear():
    torch.manual_seed(0)
    return mlp((1, 8, 8), 10)


def reconstructed(update, image):
    layer = first_linear(update)
    return best_match(image, invert_linear(*layer).reshape(-1, 1, 8, 8), low=-1, high=1)


def test_a_linear_layer_gives_its_input_away_and_clipping_does_not_help():
    image, target = digit()
    update = update_of(linear(), image, target)
    assert reconstructed(update, image).cosine > 0.9999
    assert reconstructed(clipped(update, 1e-3), image).ssim > 0.999
    # Clip 1 with noise multiplier 1: dW_i / db_i drowns.
    rng = np.random.default_rng(0)
    noisy = {n: v + rng.normal(size=v.shape) for n, v in clipped(update, 1.0).items()}
    assert reconstructed(noisy, image).cosine < 0.45


@pytest.mark.slow
def test_the_search_finds_what_a_convolution_saw():
    image, target = digit()
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(384, 10)
    )
    update = update_of(model, image, target)
    assert first_linear(update) is None
    how = {"task": TASK, "shape": (1, 8, 8), "low": -1.0, "high": 1.0, "total_variation": 1e-3}
    found = [
        invert_gradient(
            model, update, np.array([target]), rng=np.random.default_rng(0), steps=120, **how
        )
        for _ in range(2)
    ]
    assert (found[0] == found[1]).all()
    assert best_match(image, found[0], low=-1, high=1).cosine > 0.95
    noise = {n: np.random.default_rng(5).normal(size=v.shape) for n, v in update.items()}
    nothing = invert_gradient(
        model, noise, np.array([target]), rng=np.random.default_rng(0), steps=60, **how
    )
    assert best_match(image, nothing, low=-1, high=1).cosine < 0.6


def test_ssim_is_the_windowed_formula():
    rng = np.random.default_rng(0)
    one = rng.random((1, 16, 16))
    other = np.clip(one + 0.2 * rng.normal(size=one.shape), 0, 1)
    window = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    weights = np.outer(window, window) / window.sum() ** 2
    a, b = (np.pad(image[0], 5, mode="symmetric") for image in (one, other))
    values = []
    for row in range(16):
        for column in range(16):
            x, y = (image[row : row + 11, column : column + 11] for image in (a, b))
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            top = (2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
            values.append(top / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2)))
    assert ssim(one, other) == pytest.approx(np.mean(values))
    assert ssim(one, one) == pytest.approx(1) and psnr(one, one) == np.inf


def test_the_best_match_is_by_angle():
    one = np.array([1.0, 0.0])
    found = best_match(one, np.array([[0.0, 1.0], [9.0, 0.1]]), low=0, high=1)
    assert (found.index, found.ssim) == (1, None)
    assert cosine(one, np.zeros(2)) == 0


def test_the_picture_shows_originals_and_columns():
    image, _ = digit()
    png = reconstruction_picture(
        [image, -image], {"no DP": [image, -image]}, low=-1, high=1, captions={"no DP": ["1", "2"]}
    )
    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert drawn.shape[0] > drawn.shape[1] and drawn.std() > 30
    with pytest.raises(ValueError, match="2 originals"):
        reconstruction_picture([image, image], {"no DP": [image]}, low=-1, high=1)
    alone = reconstruction_picture(None, {"no DP": [image, -image]}, low=-1, high=1)
    assert np.asarray(Image.open(io.BytesIO(alone))).shape[1] < drawn.shape[1]


def test_wrong_input_is_refused():
    model = linear()
    how = {"task": TASK, "shape": (1, 8, 8), "low": -1.0, "high": 1.0}
    rng, label = np.random.default_rng(0), np.array([0])
    with pytest.raises(ValueError, match="not of one linear layer"):
        invert_linear(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="does not name exactly"):
        invert_gradient(model, {"x": np.zeros(1)}, label, rng=rng, **how)
    zero = {n: np.zeros(tuple(p.shape)) for n, p in trainable_parameters(model).items()}
    with pytest.raises(ValueError, match="is zero"):
        invert_gradient(model, zero, label, rng=rng, **how)
    with pytest.raises(ValueError, match="same shape"):
        best_match(np.zeros((1, 8, 8)), np.zeros((0, 1, 8, 8)), low=0, high=1)
