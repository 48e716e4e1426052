"""Perceptual hashes equal imagehash's; the fast search equals comparing all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.audit import nearest
from fedcore.audit.nearest import nearest_within
from fedcore.audit.perceptual import perceptual_hash


def by_imagehash(image):
    import imagehash
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return int(str(imagehash.phash(picture)), 16)


@pytest.mark.parametrize(
    "shape",
    [(28, 28, 1), (28, 28, 3), (8, 8, 1), (32, 32, 3), (64, 64, 1), (224, 100, 3), (20, 90, 1)],
)
def test_perceptual_hash_is_imagehash_phash(shape):
    images = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (8, *shape), dtype=np.uint8)
    assert perceptual_hash(images).tolist() == [by_imagehash(image) for image in images]


def test_perceptual_hash_of_real_images_is_imagehash_phash(fedloom_data):
    with np.load(fedloom_data / "medmnist" / "pneumoniamnist.npz") as arrays:
        images = arrays["test_images"][:200, ..., None]
    assert perceptual_hash(images).tolist() == [by_imagehash(image) for image in images]


def test_perceptual_hash_forgives_noise_and_brightness_but_not_another_image():
    draw = np.random.Generator(np.random.PCG64(2))
    smooth = draw.normal(size=(20, 6, 6)).repeat(5, axis=1).repeat(5, axis=2)
    images = np.clip(120 + 40 * smooth, 10, 245).astype(np.uint8)[..., None]
    brighter = images + np.uint8(5)
    noisy = np.clip(images + draw.normal(scale=2, size=images.shape), 0, 255).astype(np.uint8)
    hashes = perceptual_hash(images)
    assert np.bitwise_count(hashes ^ perceptual_hash(brighter)).max() <= 4
    assert np.bitwise_count(hashes ^ perceptual_hash(noisy)).max() <= 10
    assert np.bitwise_count(hashes[1:] ^ hashes[:-1]).min() > 12


def test_perceptual_hash_refuses_what_is_no_image():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and type float32: .* needs"):
        perceptual_hash(np.zeros((2, 3), dtype=np.float32))


def by_all_pairs(haystack, needles, threshold):
    distance = np.bitwise_count(needles[:, None] ^ haystack[None]).astype(np.int64)
    at, best = distance.argmin(axis=1), distance.min(axis=1)
    near = best <= threshold
    return np.where(near, at, -1), np.where(near, best, 65)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 300),
    threshold=st.integers(0, 16),
    spread=st.sampled_from([2, 64]),
    block=st.sampled_from([16, 1 << 21]),
)
def test_nearest_within_equals_all_pairs(seed, size, threshold, spread, block):
    draw = np.random.Generator(np.random.PCG64(seed))
    top = (1 << spread) - 1 if spread < 64 else (1 << 63)
    haystack = draw.integers(0, top, size, dtype=np.uint64)
    flips = [
        np.uint64(1) << draw.integers(0, 64, 40, dtype=np.uint64) for _ in range(threshold + 1)
    ]
    needles = draw.choice(haystack, 40)
    for flip in flips[: draw.integers(0, threshold + 2)]:
        needles = needles ^ flip
    before, nearest._BLOCK = nearest._BLOCK, block
    try:
        found = nearest_within(haystack, needles, threshold)
    finally:
        nearest._BLOCK = before
    expected = by_all_pairs(haystack, needles, threshold)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_both_roads_of_the_search_are_taken(monkeypatch):
    roads = []
    for name in ("_compare_bands", "_compare_all"):
        road = getattr(nearest, name)
        monkeypatch.setattr(
            nearest, name, lambda *a, road=road, name=name: (roads.append(name), road(*a))
        )
    draw = np.random.Generator(np.random.PCG64(0))
    spread = draw.integers(0, 1 << 63, 2000, dtype=np.uint64)
    nearest_within(spread, spread[:200] ^ np.uint64(1), 2)
    nearest_within(spread & np.uint64(255), spread[:200] & np.uint64(255), 2)
    assert set(roads) == {"_compare_bands", "_compare_all"}


def test_nearest_within_limits():
    nothing = np.zeros(0, dtype=np.uint64)
    one = np.ones(1, dtype=np.uint64)
    assert [part.tolist() for part in nearest_within(nothing, one, 4)] == [[-1], [65]]
    assert [part.tolist() for part in nearest_within(one, nothing, 4)] == [[], []]
    with pytest.raises(ValueError, match=r"threshold=64: a number of bits from 0 to 63"):
        nearest_within(one, one, 64)
