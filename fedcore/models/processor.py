"""The preprocessing that a checkpoint was trained with, read from its ``AutoImageProcessor``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcore.models.preprocess import ImagePreprocess, Resample
from fedcore.models.quiet import quiet_transformers

# Means and standard deviations of ImageNet's training images, as torchvision documents them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESAMPLES: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def checkpoint_preprocess(
    folder: Path, image_shape: tuple[int, ...], image_size: int | None = None
) -> ImagePreprocess:
    """How the checkpoint in ``folder`` reads images of ``image_shape`` (h, w, c).

    Without a ``preprocessor_config.json``: the size in ``config.json`` and ImageNet's statistics.

    Args:
      folder: of the checkpoint.
      image_shape: of the stored images; all have the same.
      image_size: side in pixels instead of the checkpoint's; then nothing is cropped.

    Raises:
      ValueError: the processor does something that cannot be repeated without it.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = ("preprocessor_config.json", "processor_config.json")
    if not any((folder / name).is_file() for name in names):
        size = image_size or config.get("image_size", 224)
        side = tuple(size) if isinstance(size, list) else (size, size)
        return ImagePreprocess(3, IMAGENET_MEAN, IMAGENET_STD, resize=side, resample="bicubic")
    from transformers import AutoImageProcessor

    with quiet_transformers():
        # The Pillow backend needs no torchvision and gives the same bytes on every machine.
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    return from_processor(processor.to_dict(), image_shape, image_size)


def from_processor(
    processor: Mapping[str, Any], image_shape: tuple[int, ...], image_size: int | None = None
) -> ImagePreprocess:
    """The same steps as an image processor's ``to_dict()``.

    >>> steps = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28},
    ...     "resample": 3, "image_mean": [0.5], "image_std": [0.5], "rescale_factor": 1 / 255}
    >>> plan = from_processor(steps, (40, 80, 1))
    >>> plan.resize, plan.crop, plan.resample
    ((32, 64), (28, 28), 'bicubic')
    """
    factor = processor.get("rescale_factor", 1 / 255)
    if not processor.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise ValueError(
            f"rescale_factor={factor!r} of the image processor is not 1/255; "
            "its model reads other values than images in [0, 1]. Use a model plug-in."
        )
    mean, std = tuple(processor["image_mean"]), tuple(processor["image_std"])
    if not processor.get("do_normalize", True):
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    resize = crop = None
    if image_size is not None:
        resize = (image_size, image_size)
    else:
        if processor.get("do_resize", True):
            resize = _size(processor["size"], image_shape)
        if processor.get("do_center_crop", "crop_size" in processor):
            crop = _size(processor["crop_size"], image_shape)
    resample = RESAMPLES[int(processor.get("resample", 2))]
    return ImagePreprocess(len(mean), mean, std, resize=resize, crop=crop, resample=resample)


def _size(size: Mapping[str, int], image_shape: tuple[int, ...]) -> tuple[int, int]:
    if "height" in size:
        return size["height"], size["width"]
    if set(size) != {"shortest_edge"}:
        raise ValueError(
            f"size={dict(size)!r} of the image processor is neither height and width nor "
            "shortest_edge. Set image_size in the model's section."
        )
    # As transformers.image_transforms.get_resize_output_image_size: the long side rounded down.
    height, width = image_shape[:2]
    short = size["shortest_edge"]
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short
