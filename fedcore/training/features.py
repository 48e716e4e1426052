"""Features of a frozen backbone: computed once per (backbone, preprocessing, data), kept by digest.

They are a function of a client's data as telling as the data itself: the folder is the client's own
and nothing in it is ever sent.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from fedcore.digests import digest_arrays, digest_json
from fedcore.models.frozen import HeadOnBackbone
from fedcore.models.preprocess import Preprocess

# Images of a forward pass. Fixed, because sums differ in the last bit between batch sizes.
CHUNK = 16

_DIGESTS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def frozen_digest(model: HeadOnBackbone) -> str:
    """SHA-256 of the frozen backbone's layers and tensors; they never change while it lives."""
    backbone = model.backbone
    if backbone not in _DIGESTS:
        arrays = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in backbone.state_dict(keep_vars=True).items()
        }
        _DIGESTS[backbone] = digest_json([repr(backbone), digest_arrays(arrays)])
    return _DIGESTS[backbone]


def backbone_features(
    model: HeadOnBackbone,
    inputs: np.ndarray,
    preprocess: Preprocess,
    cache: Path | None,
    device: str = "cpu",
) -> torch.Tensor:
    """Features (n, d) float32 of raw ``inputs``, from ``cache`` when they are there and intact.

    Args:
      model: its backbone is frozen.
      inputs: raw images (n, h, w, c) uint8.
      preprocess: what turns them into what the model reads.
      cache: folder of the client, or None to compute them again each time; the same values.
      device: where to compute.
    """
    if cache is None:
        return _computed(model, inputs, preprocess, device)
    key = digest_json(
        {
            "backbone": frozen_digest(model),
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
    features = _computed(model, inputs, preprocess, device)
    _write(path, features)
    return features


def _computed(
    model: HeadOnBackbone, inputs: np.ndarray, preprocess: Preprocess, device: str
) -> torch.Tensor:
    backbone = model.backbone
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        parts = [
            backbone(preprocess.apply(inputs[start : start + CHUNK]).to(device)).float().cpu()
            for start in range(0, len(inputs), CHUNK)
        ]
    backbone.train(was_training)
    return torch.cat(parts)


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
    warnings.warn(f"cached features {path.name} are damaged; computed again", stacklevel=2)
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
    return digest == digest_arrays({"features": features.numpy()})


def _write(path: Path, features: torch.Tensor) -> None:
    """Under another name first, so that no half-written file is ever read."""
    from safetensors.torch import save

    digest = digest_arrays({"features": features.numpy()})
    content = save({"features": features}, metadata={"digest": digest})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        # Only speed is lost: the features are in memory.
        warnings.warn(f"features were not kept in {path.parent}: {error}", stacklevel=2)
