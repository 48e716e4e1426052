"""A user's own folder of images: layouts, sizes, owners, or a clear refusal."""

import numpy as np
import pytest
from PIL import Image

from fedcore.data.image_folder import ImageFolder, read_image

NONE = {"test_fraction": 0, "val_fraction": 0}


def paint(path, value, *, side=8, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 255 - value)
    Image.new(mode, (side, side), colour).save(path)


@pytest.fixture
def scans(tmp_path):
    for label, base in (("healthy", 0), ("ill", 100)):
        for number in range(10):
            paint(tmp_path / label / f"{number}.png", base + number)
    rows = "\n".join(
        f"{label}/{number}.png,site {number % 2}"
        for label in ("healthy", "ill")
        for number in range(10)
    )
    (tmp_path / "about.csv").write_text(f"image,site\n{rows}\n")
    return tmp_path


def test_labels_are_folders(scans):
    dataset = ImageFolder(path=str(scans), task="binary", size=8, **NONE).load()
    train = dataset.splits["train"]
    assert dataset.task.labels == ("healthy", "ill")
    assert dataset.features == {"kind": "image", "shape": [8, 8, 1]}
    assert train.inputs[:, 0, 0, 0].tolist() == [*range(10), *range(100, 110)]
    assert train.targets.tolist() == [0] * 10 + [1] * 10
    assert dataset.provenance["files"][0]["images"] == 20
    assert str(scans.parent) not in str(dataset.provenance)


def test_owners_from_metadata_and_order_of_labels(scans):
    dataset = ImageFolder(
        path="scans",
        size=8,
        labels=("ill", "healthy"),
        metadata="about.csv",
        file="image",
        owner="site",
    )
    scans.rename(scans.parent / "scans")
    dataset = dataset.load(scans.parent)
    assert {split: len(part) for split, part in dataset.splits.items()} == {
        "train": 14,
        "val": 2,
        "test": 4,
    }
    for part in dataset.splits.values():
        values = part.inputs[:, 0, 0, 0]
        assert np.array_equal(part.targets, (values < 100).astype(int))
        assert np.array_equal(part.owners, np.where(values % 2, "site-1", "site-0"))


def test_splits_above_labels(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for label in ("a", "b"):
            for number in range(count):
                paint(tmp_path / split / label / f"{number}.jpg", 7)
    dataset = ImageFolder(path=str(tmp_path), size=8, has_splits=True, val_fraction=0).load()
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 6, "test": 4}
    with pytest.raises(ValueError, match=r"is not at label/image below .* has_splits=False"):
        ImageFolder(path=str(tmp_path)).load()
    paint(tmp_path / "dev" / "a" / "0.png", 7)
    with pytest.raises(ValueError, match=r"is not at split/label/image"):
        ImageFolder(path=str(tmp_path), has_splits=True).load()


@pytest.mark.parametrize(("channels", "expected"), [(3, [200, 0, 55]), (1, [66])])
def test_channels_and_size(tmp_path, channels, expected):
    paint(tmp_path / "x.png", 200, side=20, mode="RGB")
    image = read_image(tmp_path / "x.png", 12, channels)
    assert image.shape == (12, 12, channels)
    assert (image == expected).all()


def test_sixteen_bits_are_not_cut_silently(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x.png cannot be read.*not 8 bits a channel"):
        read_image(tmp_path / "x.png", 8, 1)


def test_damaged_and_enormous_images_are_refused(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"\x89PNG no")
    with pytest.raises(ValueError, match=r"x.png cannot be read as an image"):
        read_image(tmp_path / "x.png", 8, 1)
    paint(tmp_path / "y.png", 1, side=40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"y.png cannot be read as an image.*exceeds limit"):
        read_image(tmp_path / "y.png", 8, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("ill",)}, r"holds \['healthy'\]; those named are \['ill'\]"),
        ({"owner": "site"}, "name it under metadata"),
        ({"owner": "site", "metadata": "other.csv"}, "there is nothing at"),
        ({"owner": "site", "metadata": "about.csv"}, r"has no columns \['file'\]"),
        ({"owner": "place", "metadata": "about.csv", "file": "image"}, r"no columns \['place'\]"),
    ],
)
def test_folders_unlike_their_description_are_refused(scans, settings, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(path=str(scans), **settings).load()


def test_metadata_covers_each_image_once(scans):
    settings = ImageFolder(path=str(scans), metadata="about.csv", file="image", owner="site")
    text = (scans / "about.csv").read_text()
    (scans / "about.csv").write_text(text + "ill/3.png,site 9\n")
    with pytest.raises(ValueError, match=r"two rows for 'ill/3.png'"):
        settings.load()
    (scans / "about.csv").write_text(text.replace("ill/3.png,site 1\n", ""))
    with pytest.raises(ValueError, match=r"no row for 1 of 20 images, the first is 'ill/3.png'"):
        settings.load()


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no image \(.png, .jpg"):
        ImageFolder(path=str(tmp_path)).load()
