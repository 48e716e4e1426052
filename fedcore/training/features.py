"""Features of a frozen backbone: computed once per (backbone, preprocessing, data), kept by digest.

They are a function of a client's data as telling as the data itself: the folder is the client's own
and nothing in it is ever sent.
"""

from __future__ import annotations

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

# Inputs of a forward pass. Fixed, because sums differ in the last bit between batch sizes.
CHUNK = 16

_DIGESTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def frozen_digest(cut: Cut) -> str:
    """SHA-256 of the frozen backbone's layers and tensors; most never change while it lives."""
    backbone = cut.backbone
    if backbone not in _DIGESTS:
        arrays = {
            name: _array(tensor)
            for name, tensor in backbone.state_dict(keep_vars=True).items()
            if name not in cut.travelling
        }
        _DIGESTS[backbone] = digest_json([repr(backbone), digest_arrays(arrays)])
    if not cut.travelling:
        return _DIGESTS[backbone]
    anew = digest_arrays({name: _array(tensor) for name, tensor in cut.travelling.items()})
    return digest_json([_DIGESTS[backbone], anew])


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
        return _computed(cut.backbone, inputs, preprocess, None, device)
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
    features = _computed(cut.backbone, inputs, preprocess, cache, device)
    _write(path, features)
    return features


def _computed(
    backbone: nn.Module,
    inputs: np.ndarray,
    preprocess: Preprocess,
    cache: Path | None,
    device: str,
) -> torch.Tensor:
    modes = {module: module.training for module in backbone.modules()}
    order, read = preprocess.order(inputs), preprocess.reader(inputs, cache)
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
