"""From what the store holds (uint8 images and texts, float32 tables) to what a model reads.

Without torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedcore.models.causal_tokens import CausalPreprocess
from fedcore.models.reader import Reader
from fedcore.models.tokens import TextPreprocess

if TYPE_CHECKING:
    import torch

    from fedcore.models.settings import ModelSettings

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class ImagePreprocess:
    """Resize, crop the centre, repeat grey to ``channels``, then ``(x / 255 - mean) / std``.

    Resizing is Pillow's on uint8, as in the image processors of ``transformers``: its fixed-point
    arithmetic gives the same bytes on every machine.

    Attributes:
      channels: channels that the model reads.
      mean: one per channel, of values in [0, 1].
      std: one per channel, positive.
      resize: (height, width) or None.
      crop: (height, width) cut from the centre after resizing, or None.
      resample: filter of the resize.
    """

    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    resample: Resample = "bilinear"
    kind: Literal["image"] = "image"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != self.channels:
                raise ValueError(
                    f"{name}={value!r} needs one value per channel; channels={self.channels}."
                )
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std!r} must be positive.")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(channels, height, width) that the model reads from images of ``shape`` (h, w, c)."""
        return (self.channels, *(self.crop or self.resize or tuple(shape[:2])))

    def order(self, inputs: np.ndarray) -> np.ndarray:
        """(n,) indices as they are: images of one size."""
        return np.arange(len(inputs))

    def apply(self, inputs: np.ndarray) -> torch.Tensor:
        """(n, height, width, c) uint8 to (n, channels, height, width) float32.

        Raises:
          ValueError: not uint8, not four axes, or channels that cannot be repeated.
        """
        import torch

        if inputs.dtype != np.uint8 or inputs.ndim != 4:
            raise ValueError(
                f"inputs of dtype {inputs.dtype} and shape {inputs.shape} are not images: "
                "expected uint8 (n, height, width, channels)."
            )
        images = self._cropped(self._resized(inputs))
        if images.shape[-1] == 1 and self.channels > 1:
            images = np.repeat(images, self.channels, axis=-1)
        if images.shape[-1] != self.channels:
            raise ValueError(
                f"images have {images.shape[-1]} channels; the model reads "
                f"channels={self.channels}. Only grey images are repeated to more channels."
            )
        scale, shift = (
            torch.tensor(values, dtype=torch.float32)[:, None, None]
            for values in (self.std, self.mean)
        )
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)
        return torch.from_numpy(planes).div_(255).sub_(shift).div_(scale)

    def reader(self, inputs: np.ndarray, cache: Path | None) -> Reader:
        """:meth:`apply` on chosen rows; to read an image again is as fast as to keep it."""
        return lambda rows: self.apply(inputs[rows])

    def _resized(self, images: np.ndarray) -> np.ndarray:
        if self.resize is None or images.shape[1:3] == self.resize:
            return images
        from PIL import Image

        filters = Image.Resampling
        way = {
            "nearest": filters.NEAREST,
            "bilinear": filters.BILINEAR,
            "bicubic": filters.BICUBIC,
            "lanczos": filters.LANCZOS,
        }[self.resample]
        height, width = self.resize
        out = np.empty((len(images), height, width, images.shape[-1]), dtype=np.uint8)
        for index, image in enumerate(images):
            for channel in range(images.shape[-1]):
                plane = Image.fromarray(np.ascontiguousarray(image[:, :, channel]))
                out[index, :, :, channel] = np.asarray(plane.resize((width, height), way))
        return out

    def _cropped(self, images: np.ndarray) -> np.ndarray:
        if self.crop is None:
            return images
        (height, width), (tall, wide) = self.crop, images.shape[1:3]
        if height > tall or width > wide:
            raise ValueError(f"crop={self.crop} is larger than the image {tall} x {wide}.")
        top, left = (tall - height) // 2, (wide - width) // 2
        return images[:, top : top + height, left : left + width]

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`preprocess_from_json` takes back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class TablePreprocess:
    """``(x - mean) / std`` per column; empty means the table is read as it is.

    Attributes:
      mean: one per column, or empty.
      std: one per column and positive, or empty.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} stds; they must pair up.")
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std={self.std!r} must be positive.")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(columns,), unchanged."""
        return tuple(shape)

    def order(self, inputs: np.ndarray) -> np.ndarray:
        """(n,) indices as they are: rows of one length."""
        return np.arange(len(inputs))

    def apply(self, inputs: np.ndarray) -> torch.Tensor:
        """(n, columns) to standardised float32 (n, columns).

        Raises:
          ValueError: wrong number of columns, or values that are not finite.
        """
        import torch

        if inputs.ndim != 2 or (self.mean and inputs.shape[1] != len(self.mean)):
            raise ValueError(
                f"inputs of shape {inputs.shape} are no table of {len(self.mean) or 'any'} columns."
            )
        table = np.array(inputs, dtype=np.float32)
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
            raise ValueError(
                f"inputs have values that are not finite (first in row {row}); "
                "encode missing values before training."
            )
        if self.mean:
            table -= np.array(self.mean, dtype=np.float32)
            table /= np.array(self.std, dtype=np.float32)
        return torch.from_numpy(table)

    def reader(self, inputs: np.ndarray, cache: Path | None) -> Reader:
        """:meth:`apply` on chosen rows; to read a row again is as fast as to keep it."""
        return lambda rows: self.apply(inputs[rows])

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`preprocess_from_json` takes back."""
        return {"kind": "table", "mean": list(self.mean), "std": list(self.std)}


Preprocess = ImagePreprocess | TablePreprocess | TextPreprocess | CausalPreprocess

_KINDS: Mapping[str, Any] = {
    "image": ImagePreprocess,
    "table": TablePreprocess,
    "text": TextPreprocess,
    "causal": CausalPreprocess,
}


def preprocess_from_json(value: Mapping[str, Any]) -> Preprocess:
    """The value that ``to_json`` described."""
    fields: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in value.items()
    }
    made: Preprocess = _KINDS[value["kind"]](**fields)
    return made


def preprocess_for(settings: ModelSettings, features: Mapping[str, Any]) -> Preprocess:
    """How the model of ``settings`` reads inputs that a dataset's ``features`` describes."""
    return settings.preprocess(features)


def default_preprocess(features: Mapping[str, Any]) -> Preprocess:
    """Images to [-1, 1] at their own size; tables, which sources encode and scale, as they are.

    Raises:
      ValueError: inputs are texts.
    """
    if features["kind"] == "text":
        raise ValueError(
            "the data are texts, which this kind of model does not read; set model.kind: "
            "text_transformer, or causal_transformer for a language task."
        )
    if features["kind"] == "table":
        return TablePreprocess()
    channels = int(features["shape"][2])
    return ImagePreprocess(channels, (0.5,) * channels, (0.5,) * channels)
