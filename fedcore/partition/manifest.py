"""A partition as a parquet table, one row per placed sample, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedcore.data.dataset import SPLITS
from fedcore.digests import canonical_json
from fedcore.partition.partition import Partition

_KEY = b"fedloom.partition"


def to_parquet(partition: Partition, samples: Mapping[str, np.ndarray] | None = None) -> bytes:
    """The manifest: columns split, client, index and, where given, sample_digest.

    The same partition gives the same bytes (of one pyarrow release). Settings, seed and the
    partition's digest stand in the file's metadata. Digests of samples may identify people's
    data: leave them out where the data is not public.

    Args:
      samples: split -> (n,) str digests of all samples of that split.
    """
    import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped,unused-ignore]

    rows: dict[str, list[np.ndarray]] = {"split": [], "client": [], "index": [], "digest": []}
    for split in SPLITS:
        for client, indices in sorted(partition.indices.get(split, {}).items()):
            rows["split"].append(np.full(len(indices), split, dtype=object))
            rows["client"].append(np.full(len(indices), client, dtype=object))
            rows["index"].append(indices)
            if samples is not None:
                rows["digest"].append(samples[split][indices].astype(object))
    columns = {
        "split": pa.array(np.concatenate(rows["split"]), pa.string()),
        "client": pa.array(np.concatenate(rows["client"]), pa.string()),
        "index": pa.array(np.concatenate(rows["index"]), pa.int64()),
    }
    if samples is not None:
        columns["sample_digest"] = pa.array(np.concatenate(rows["digest"]), pa.string())
    about = {"digest": partition.digest, "how": dict(partition.how), "seed": partition.seed}
    table = pa.table(columns).replace_schema_metadata({_KEY: canonical_json(about)})
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", version="2.6")
    return sink.getvalue()


def from_parquet(manifest: bytes) -> Partition:
    """The partition that :func:`to_parquet` wrote.

    Raises:
      ValueError: not such a manifest, or its rows do not have the digest that it states.
    """
    import json

    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(manifest))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"manifest of {len(manifest)} bytes is not a parquet file: {error}"
        ) from None
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise ValueError(
            "manifest is a parquet file without partition metadata; give one that fedloom wrote."
        )
    about: dict[str, Any] = json.loads(metadata[_KEY])
    splits = np.asarray(table["split"].to_pylist(), dtype=str)
    clients = np.asarray(table["client"].to_pylist(), dtype=str)
    indices = table["index"].to_numpy()
    partition = Partition(
        indices={
            split: {
                str(client): indices[(splits == split) & (clients == client)].astype(np.int64)
                for client in np.unique(clients[splits == split])
            }
            for split in SPLITS
            if (splits == split).any()
        },
        how=about["how"],
        seed=about["seed"],
    )
    if partition.digest != about["digest"]:
        raise ValueError(
            f"manifest states digest {about['digest']} and its rows have {partition.digest}: it "
            "was altered. Make the partition again from its settings and seed."
        )
    return partition
