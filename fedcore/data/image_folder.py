"""A user's own folder of images: one subfolder per label, perhaps one per split above."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.dataset import SPLITS, Dataset, Split
from fedcore.data.files import user_path
from fedcore.data.groups import group_names
from fedcore.data.own import (
    DataPath,
    Declared,
    Labels,
    Licence,
    Name,
    by_split,
    class_targets,
    file_entry,
    listing_md5,
    own_provenance,
)
from fedcore.data.owners import owner_ids
from fedcore.data.splits import TestFraction, ValFraction, hold_out
from fedcore.settings import Settings
from fedcore.task import TaskKind

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class ImageFolder(Settings, title="Own images"):
    """Your own images: ``label/*.png``, or ``train/label/*.png``, ``val/...``, ``test/...``."""

    kind: Literal["image_folder"] = "image_folder"
    name: Name = "images"
    path: DataPath
    task: Literal["binary", "multiclass", "ordinal"] = Field(
        default="multiclass", description="What is predicted."
    )
    labels: Labels = Field(
        default=(), description="Label folders by index; binary: negative, positive. Empty: sorted."
    )
    size: int = Field(
        default=28, ge=8, le=1024, description="Side in pixels; other images are resized to it."
    )
    channels: Literal[1, 3] = Field(default=1, description="1 for grey, 3 for colour.")
    has_splits: bool = Field(
        default=False, description="The first level of folders is train, val and test."
    )
    metadata: str | None = Field(
        default=None, description="CSV inside the folder with a row per image, e.g. metadata.csv."
    )
    file: str = Field(
        default="file", description="Metadata column of the image's path inside the folder."
    )
    owner: str | None = Field(
        default=None, description="Metadata column of the image's owner: the natural clients."
    )
    group: str | None = Field(
        default=None,
        description="Metadata column of the image's group of persons, for privacy.groups.",
    )
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    declared: Declared = Field(default_factory=dict)
    licence: Licence = ""

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``path`` may be relative to ``folder``. Images are sorted by path.

        Raises:
          DataNotFound: no such folder.
          ValueError: another layout, an unreadable image, an image without an owner.
        """
        root = user_path(self.path, folder)
        files = self._files(root)
        parts = [path.relative_to(root).parts for path in files]
        targets, task = class_targets(
            [part[-2] for part in parts], TaskKind(self.task), self.labels, where=str(root)
        )
        images = np.stack([read_image(path, self.size, self.channels) for path in files])
        told, entries = self._metadata(root, files)
        owners = owner_ids(told[self.owner]) if self.owner else None
        groups = group_names(told[self.group]) if self.group else None
        names = np.array([part[0] for part in parts]) if self.has_splits else None
        splits = by_split(Split(images, targets, owners, groups), names, where=str(root))
        listing = listing_md5(root, files)
        entries.insert(0, {"name": root.name, "images": len(files), "md5": listing})
        return Dataset(
            name=self.name,
            task=task,
            splits=hold_out(
                splits,
                task,
                name=self.name,
                val_fraction=self.val_fraction,
                test_fraction=self.test_fraction,
            ),
            features={"kind": "image", "shape": [self.size, self.size, self.channels]},
            provenance=own_provenance(entries, self.licence, self.declared),
        )

    def _files(self, root: Path) -> list[Path]:
        layout = "split/label/image" if self.has_splits else "label/image"
        files = sorted(
            path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not files:
            raise ValueError(f"{root} holds no image ({', '.join(SUFFIXES)}).")
        depth = len(layout.split("/"))
        for path in files:
            parts = path.relative_to(root).parts
            if len(parts) != depth or (self.has_splits and parts[0] not in SPLITS):
                raise ValueError(
                    f"{path} is not at {layout} below {root}. Move it, or change has_splits="
                    f"{self.has_splits}."
                )
        return files

    def _metadata(
        self, root: Path, files: list[Path]
    ) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """The named columns in the order of the images, and the file's entry of provenance."""
        named = {"owner": self.owner, "group": self.group}
        columns = {role: column for role, column in named.items() if column is not None}
        if not columns:
            return {}, []
        if self.metadata is None:
            role, column = next(iter(columns.items()))
            raise ValueError(
                f"{role}={column!r} is a column of a metadata file; name it under metadata."
            )
        import pandas as pd

        path = user_path(self.metadata, root)
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        absent = [name for name in (self.file, *columns.values()) if name not in frame.columns]
        if absent:
            raise ValueError(f"{path} has no columns {absent}; it has {list(frame.columns)}.")
        twice = frame[self.file][frame[self.file].duplicated()].tolist()
        if twice:
            raise ValueError(f"{path} has two rows for {twice[0]!r}; an image has one row.")
        keys = [file.relative_to(root).as_posix() for file in files]
        known = {*frame[self.file]}
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise ValueError(
                f"{path} has no row for {len(unknown)} of {len(keys)} images, the first is "
                f"{unknown[0]!r}. Add them to column {self.file!r}."
            )
        found = frame.set_index(self.file).loc[keys]
        return {name: found[name].to_numpy(str) for name in columns.values()}, [file_entry(path)]


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """(size, size, channels) uint8 of an image file, resized bilinearly where it differs.

    Raises:
      ValueError: not a readable image, or more than 8 bits a channel.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns from 90 million pixels on and raises from twice that: refuse both.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.mode not in EIGHT_BIT_MODES:
                    raise ValueError(
                        f"its pixels are {image.mode!r}, not 8 bits a channel: choose the window "
                        "of values to show and save it as 8 bits"
                    )
                ready = image.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from error
    if ready.size != (size, size):
        ready = ready.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(ready, dtype=np.uint8).reshape(size, size, channels)
