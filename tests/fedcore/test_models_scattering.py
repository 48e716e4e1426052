"""The scattering transform: against direct convolutions, the theory's laws and published shapes."""

import cmath
import math

import numpy as np
import pytest
import torch

from fedcore.digests import digest_arrays
from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.scattering import Scattering, averaging, morlet
from fedcore.models.settings import GroupNormCnnSettings, ScatteringSettings
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.features import backbone_features, frozen_digest
from fedcore.training.settings import LoopSettings
from fedcore.training.threads import one_thread
from fedcore.training.train import train

TWO = Task(TaskKind.BINARY, ("no", "yes"))
DIGITS = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)


def _images(n: int = 2, side: int = 28, channels: int = 1) -> torch.Tensor:
    rng = np.random.default_rng(side)
    return torch.from_numpy(rng.random((n, channels, side, side))).float() * 2 - 1


def _features(images: torch.Tensor, **how: int) -> torch.Tensor:
    settings = {"scales": 2, "angles": 8, "groups": 27} | how
    with one_thread(), torch.no_grad():
        return Scattering(tuple(images.shape[1:]), **settings)(images)


@pytest.mark.parametrize(
    ("shape", "width"),
    # Tramer and Boneh 2021, section 3: (81, 7, 7) for MNIST, (243, 8, 8) for CIFAR-10.
    [((1, 28, 28), 81 * 7 * 7), ((3, 32, 32), 243 * 8 * 8), ((1, 30, 21), 81 * 8 * 6)],
)
def test_published_shapes(shape, width) -> None:
    backbone = Scattering(shape, scales=2, angles=8, groups=27)
    assert backbone.width == width
    with one_thread():
        assert backbone(torch.zeros(2, *shape)).shape == (2, width)


def _direct_morlet(side: int, scale: int, angle: float, slant: float) -> dict:
    """Values of the wavelet by offset (row, column), from its formula, without any transform."""
    sigma, xi = 0.8 * 2**scale, 0.75 * math.pi / 2**scale
    window, wave = {}, {}
    for row in range(-side, side + 1):
        for column in range(-side, side + 1):
            along = column * math.cos(angle) + row * math.sin(angle)
            beside = -column * math.sin(angle) + row * math.cos(angle)
            place = row, column
            window[place] = math.exp(-(along**2) / 2 / sigma**2 - (slant * beside / sigma) ** 2 / 2)
            wave[place] = window[place] * cmath.exp(1j * xi * along)
    mean = sum(wave.values()) / sum(window.values())
    norm = slant / (2 * math.pi * sigma**2)
    return {place: norm * (wave[place] - mean * window[place]) for place in wave}


def _direct_convolution(signal: np.ndarray, filter_: dict, step: int) -> np.ndarray:
    """sum over offsets of filter(offset) signal(place - offset), on a periodic grid."""
    out = np.zeros(signal.shape, dtype=complex)
    for (row, column), value in filter_.items():
        if abs(value) > 1e-9:
            out += value * np.roll(signal, (row, column), (0, 1))
    return out[::step, ::step]


def _direct_average(signal: np.ndarray, octaves: int) -> np.ndarray:
    sigma, reach = 0.8 * 2 ** (octaves - 1), range(-24, 25)
    window = {
        (row, column): math.exp(-(row**2 + column**2) / 2 / sigma**2)
        for row in reach
        for column in reach
    }
    total = sum(window.values())
    normed = {place: value / total for place, value in window.items()}
    return _direct_convolution(signal, normed, 2**octaves).real[1:-1, 1:-1]


def test_it_is_what_direct_convolutions_give() -> None:
    """One image of 8 x 8, two scales, two angles: nine channels, each by its definition."""
    angles, image = 2, _images(1, side=8)
    padded = np.pad(image[0, 0].double().numpy(), 4, mode="reflect")
    wavelets = [
        [_direct_morlet(24, scale, math.pi * turn / angles, 4 / angles) for turn in range(angles)]
        for scale in range(2)
    ]
    first = [abs(_direct_convolution(padded, wavelet, 1)) for wavelet in wavelets[0]]
    coarse = [abs(_direct_convolution(padded, wavelet, 2)) for wavelet in wavelets[1]]
    second = [abs(_direct_convolution(u, wavelet, 2)) for u in first for wavelet in wavelets[1]]
    channels = [_direct_average(u, 2) for u in (padded, *first)]
    channels += [_direct_average(u, 1) for u in (*coarse, *second)]
    expected = np.stack([(c - c.mean()) / np.sqrt(c.var() + 1e-5) for c in channels])
    found = _features(image, angles=angles, groups=9)[0].numpy().reshape(9, 2, 2)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_filters_are_wavelets_and_cover_all_frequencies() -> None:
    """Kymatio's constants: mean zero, and a Littlewood-Paley sum that is flat within a factor."""
    bank = np.array([morlet(36, 36, j, math.pi * a / 8, 0.5) for j in (0, 1) for a in range(8)])
    assert abs(bank[:, 0, 0]).max() < 1e-12
    turned = np.roll(bank[:, ::-1, ::-1], 1, (1, 2))  # psi(-w): an image is real
    low = np.fft.fft(averaging(36, 2)[0]).real
    covered = (bank**2 + turned**2).sum(0) / 2 + np.outer(low, low) ** 2
    assert covered[0, 0] == pytest.approx(1, abs=1e-6)
    inside = np.abs(np.fft.fftfreq(36)) < 0.4
    assert covered[np.ix_(inside, inside)].min() > 0.2 and covered.max() < 1.3


def test_features_are_bounded_and_each_images_own() -> None:
    images = torch.cat([_images(3), torch.zeros(1, 1, 28, 28), 1e4 * _images(1)])
    together = _features(images)
    assert (together.norm(dim=1) <= math.sqrt(3969) * (1 + 1e-6)).all()
    assert torch.isfinite(together).all() and not together[3].any()
    alone = torch.cat([_features(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_small_shift_moves_features_less_than_pixels() -> None:
    digit = torch.zeros(1, 1, 28, 28)
    digit[:, :, 6:22, 12:15] = 1
    shifted = digit.roll(1, 3)
    moved = [
        (after - before).norm() / before.norm()
        for before, after in ((digit, shifted), (_features(digit), _features(shifted)))
    ]
    assert moved[1] < 0.5 * moved[0]


def test_colours_are_transformed_alone() -> None:
    images = _images(2, channels=3)
    joint = _features(images).view(2, 3, -1)
    for colour in range(3):
        torch.testing.assert_close(joint[:, colour], _features(images[:, colour : colour + 1]))


def test_only_the_head_is_trained_on_features_that_are_kept(tmp_path) -> None:
    settings = ScatteringSettings()
    preprocess = settings.preprocess({"kind": "image", "shape": [28, 28, 1]})

    def trained(cache) -> dict:
        model = build_model(settings, TWO, (1, 28, 28), seed=0)
        how = {"settings": LoopSettings(batch_size=2), "learning_rate": 0.1, "seed": 0}
        targets = np.arange(5) % 2
        train(model, DIGITS, targets, task=TWO, preprocess=preprocess, cache=cache, **how)
        return trainable_state(model)

    digests = {digest_arrays(trained(cache)) for cache in (None, tmp_path, tmp_path)}
    assert len(digests) == 1 and len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert sorted(trained(None)) == ["head.bias", "head.weight"]


def test_other_transforms_have_their_own_features(tmp_path) -> None:
    preprocess = ScatteringSettings().preprocess({"kind": "image", "shape": [28, 28, 1]})
    digests = set()
    for values in ({}, {"groups": 9}, {"scales": 1, "groups": 9}, {"angles": 4, "groups": 1}):
        cut = on_frozen_backbone(
            build_model(ScatteringSettings(**values), TWO, (1, 28, 28), seed=0)
        )
        digests.add(frozen_digest(cut))
        backbone_features(cut, DIGITS[:1], preprocess, tmp_path)
    assert len(digests) == len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_a_model_that_trains_its_layers_has_no_frozen_backbone() -> None:
    assert on_frozen_backbone(build_model(GroupNormCnnSettings(), TWO, (1, 28, 28), 0)) is None
