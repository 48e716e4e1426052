"""Features of a frozen backbone: computed once per (backbone, preprocessing, data), kept by digest.

They are a function of a client's data as telling as the data itself: the folder is the client's own
and nothing in it is ever sent.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from fedcore.digests import digest_arrays, digest_json
from fedcore.kept_files import keep, warn_of_damage
from fedcore.models.frozen import Cut
from fedcore.models.preprocess import Preprocess
from fedcore.models.reader import Reader

# Inputs of a forward pass. Fixed, because sums differ in the last bit between batch sizes.
CHUNK = 16

_DIGESTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def frozen_digest(cut: Cut) -> str:
    """SHA-256 of the layers and tensors before the head; most never change while the cut lives."""
    never = [] if cut.below is None else [_digest_once(cut.below, ())]
    never.append(_digest_once(cut.backbone, cut.travelling))
    if len(never) == 1 and not cut.travelling:
        return never[0]
    anew = digest_arrays({name: _array(tensor) for name, tensor in cut.travelling.items()})
    return digest_json([*never, anew])


def _digest_once(part: nn.Module, but: Collection[str]) -> str:
    """SHA-256 of the part's layers and tensors as it was first met, but for some of its tensors."""
    if part not in _DIGESTS:
        arrays = {
            name: _array(tensor)
            for name, tensor in part.state_dict(keep_vars=True).items()
            if name not in but
        }
        _DIGESTS[part] = digest_json([repr(part), digest_arrays(arrays)])
    return _DIGESTS[part]


def backbone_features(
    cut: Cut,
    inputs: np.ndarray,
    preprocess: Preprocess,
    cache: Path | None,
    device: str = "cpu",
) -> torch.Tensor:
    """Features (n, ...) of raw ``inputs``, from ``cache`` when they are there and intact.

    Of the type that the backbone computes in. Sequences are as long as the longest one.

    Args:
      cut: a model in two.
      inputs: raw images (n, h, w, c) or texts (n, most_bytes), uint8.
      preprocess: what turns them into what the model reads.
      cache: folder of the client, or None to compute them again each time; the same values.
      device: where to compute.
    """
    if cache is None:
        return _computed(cut, inputs, preprocess, None, device)
    key = digest_json(
        {
            "backbone": frozen_digest(cut),
            "preprocess": preprocess.to_json(),
            "inputs": digest_arrays({"inputs": inputs}),
            "torch": torch.__version__,
            "device": device,
            "chunk": CHUNK,
        }
    )
    path = cache / "features" / key[:2] / f"{key}.safetensors"
    kept = _read(path)
    if kept is not None:
        return kept
    features = _computed(cut, inputs, preprocess, cache, device)
    _write(path, features)
    return features


def _reader(
    cut: Cut, inputs: np.ndarray, preprocess: Preprocess, cache: Path | None, device: str
) -> Reader:
    """What the backbone reads of chosen inputs: themselves, or features of what is below it."""
    if cut.below is None:
        return preprocess.reader(inputs, cache)
    states = backbone_features(Cut(cut.below, cut.backbone), inputs, preprocess, cache, device)
    return lambda rows: states[torch.from_numpy(rows)]


def _computed(
    cut: Cut,
    inputs: np.ndarray,
    preprocess: Preprocess,
    cache: Path | None,
    device: str,
) -> torch.Tensor:
    backbone, order = cut.backbone, preprocess.order(inputs)
    read = _reader(cut, inputs, preprocess, cache, device)
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    with torch.no_grad():
        parts = [
            backbone(read(chunk).to(device)).cpu()
            for chunk in np.split(order, range(CHUNK, len(order), CHUNK))
        ]
    for module, mode in modes.items():
        module.training = mode
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    features = parts[0].new_zeros(len(inputs), *shape)
    for start, part in zip(range(0, len(inputs), CHUNK), parts, strict=True):
        rows = torch.from_numpy(order[start : start + CHUNK])
        if part.shape[1:] == features.shape[1:]:
            features[rows] = part
        else:  # of shorter sequences
            features[rows, : part.shape[1]] = part
    return features


def _array(tensor: torch.Tensor) -> np.ndarray:
    """For digests; numpy has no bfloat16, whose bits are taken for integers."""
    tensor = tensor.detach().cpu()
    array: np.ndarray = (
        tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    ).numpy()
    return array


def _read(path: Path) -> torch.Tensor | None:
    """The kept features, mapped from the file: processes share them and read the rows they use."""
    from safetensors import safe_open

    try:
        at = path.stat()
        if _is_intact(path, at.st_ino, at.st_size, at.st_mtime_ns):
            with safe_open(path, framework="pt") as file:
                features: torch.Tensor = file.get_tensor("features")
            return features
    except OSError:
        return None
    warn_of_damage(path, "features")
    return None


@lru_cache(maxsize=1024)
def _is_intact(path: Path, inode: int, size: int, changed: int) -> bool:
    """Whether the digest is right; asked once in this process while the file stays as it is.

    To hash the features of 6000 images of 28 x 28 again takes longer than a round on them.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            features = file.get_tensor("features")
            digest: str | None = (file.metadata() or {}).get("digest")
    except (SafetensorError, OSError):
        return False
    return digest == digest_arrays({"features": _array(features)})


def _write(path: Path, features: torch.Tensor) -> None:
    from safetensors.torch import save

    digest = digest_arrays({"features": _array(features)})
    keep(path, save({"features": features}, metadata={"digest": digest}), "features")
