"""Token ids of texts, made through ``datasets`` and kept as an Arrow file named by a digest.

They are as telling as the texts: the folder is the client's own and nothing in it is ever sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.data.text_bytes import unpack
from fedcore.digests import digest_arrays, digest_json
from fedcore.kept_files import keep, warn_of_damage
from fedcore.models.reader import Reader

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

# Texts that are tokenised at once; speed and memory only.
BATCH = 1000
# After the Arrow stream, whose readers stop at its end: SHA-256 of the key and the stream.
SEAL = 32
# Of a preprocessing: where its tokenizer lies.
PLACE = ("name", "revision")

Tokenise = Callable[[Sequence[str]], np.ndarray]
"""Texts to ids (n, width) int32."""


def token_reader(
    how: Mapping[str, Any], tokenise: Tokenise, inputs: np.ndarray, cache: Path | None
) -> Reader:
    """What gives the ids of chosen rows; all are tokenised now, once.

    Args:
      how: of the preprocessing as JSON; where its tokenizer lies decides nothing.
      tokenise: a function of each text alone, decided by ``how`` and by releases.
      inputs: (n, most_bytes) uint8, as :func:`fedcore.data.text_bytes.pack` makes it.
      cache: folder of the client, where the ids are kept; None: in memory alone.

    Raises:
      ValueError: rows that are no text, or ``tokenise`` refuses.
    """
    import torch

    packed = np.asarray(inputs)
    texts = unpack(packed)
    if cache is None or not texts:
        ids = tokenise(texts)
    else:
        decides = {
            "inputs": digest_arrays({"inputs": packed}),
            "how": {name: value for name, value in how.items() if name not in PLACE},
            "releases": {name: version(name) for name in ("transformers", "tokenizers")},
        }
        ids = kept_ids(tokenise, texts, how["max_tokens"], digest_json(decides), cache)
    tensor = torch.from_numpy(ids)
    return lambda rows: tensor[torch.from_numpy(rows)]


def kept_ids(
    tokenise: Tokenise, texts: Sequence[str], width: int, key: str, cache: Path
) -> np.ndarray:
    """Ids (n, width) int32 of n texts, from the cache when they are there and intact.

    The file can be opened with ``datasets.Dataset.from_file``. It is parsed only if the digest at
    its end is right; nothing is ever unpickled.

    Args:
      tokenise: a function of each text alone.
      width: of a row.
      key: digest of all that decides the ids, the texts too.
      cache: folder of the client.
    """
    path = cache / "tokens" / key[:2] / f"{key}.arrow"
    table = _read(path, key)
    if table is None:
        table = _mapped(tokenise, texts, width, key)
        keep(path, _sealed(_stream_of(table), key), "tokens")
    return _ids(table)


def _mapped(tokenise: Tokenise, texts: Sequence[str], width: int, key: str) -> pa.Table:
    """One column ``ids`` of lists. Fingerprints are given: ``datasets`` would pickle the function
    and the texts to name its work."""
    from datasets import Dataset, Features, List, Value
    from datasets.table import InMemoryTable

    def batch(rows):
        return {"ids": list(tokenise(rows["text"]))}

    given = Dataset(InMemoryTable.from_pydict({"text": list(texts)}), fingerprint=key)
    with _no_bars():
        found = given.map(
            batch,
            batched=True,
            batch_size=BATCH,
            remove_columns="text",
            features=Features({"ids": List(Value("int32"), length=width)}),
            keep_in_memory=True,
            load_from_cache_file=False,
            new_fingerprint=key,
        )
    return found.data.table.combine_chunks()


def _ids(table: pa.Table) -> np.ndarray:
    """(n, width) int32, a copy of its own."""
    column = table.column("ids")
    flat = [np.asarray(chunk.flatten()) for chunk in column.chunks]
    width = column.type.list_size
    return np.concatenate([np.empty(0, np.int32), *flat]).reshape(-1, width)


def _stream_of(table: pa.Table) -> bytes:
    """An Arrow stream, which is what ``datasets`` keeps."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _sealed(stream: bytes, key: str) -> bytes:
    return stream + hashlib.sha256(key.encode() + stream).digest()


def _read(path: Path, key: str) -> pa.Table | None:
    import pyarrow as pa

    try:
        content = path.read_bytes()
    except OSError:
        return None
    if _sealed(content[:-SEAL], key) != content:
        warn_of_damage(path, "tokens")
        return None
    return pa.ipc.open_stream(content).read_all()


@contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars of ``datasets`` in this scope; the former setting after it."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()
