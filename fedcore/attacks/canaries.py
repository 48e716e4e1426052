"""Canaries: records whose presence is easy to see, and the secret coins that decide of it."""

from __future__ import annotations

import numpy as np

from fedcore.attacks.checks import ONE_LABEL
from fedcore.data.dataset import Split
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.task import Task


def draw_canaries(rows: Split, count: int, *, task: Task, rng: np.random.Generator) -> Split:
    """Random records to hide among a client's training rows.

    Each value is at one end of its range by a fair coin (0 or 255 of images, the column's smallest
    or largest value of tables), the label is any: nearly orthogonal to each other and to real
    records, as in Nasr et al., Adversary Instantiation, IEEE S&P 2021. Mislabelled real records
    prove far less: bounds of 0.1 to 1.5 where these prove 3 to 5 (linear model, Fashion-MNIST).

    Args:
      rows: of the client.
      count: m.
      task: binary, multiclass or ordinal.
      rng: of the audit.

    Raises:
      ValueError: no labels to draw, or texts, whose bytes are not for drawing one by one.
    """
    if task.kind not in ONE_LABEL:
        raise ValueError(f"canaries need one label each; the task is {task.kind.value}.")
    if rows.inputs.dtype == np.uint8 and rows.inputs.ndim == 2:
        raise ValueError(
            "canaries are images or rows of a table; the client holds texts. Audit a run on images "
            "or tables."
        )
    is_image = rows.inputs.dtype == np.uint8
    low = 0 if is_image else rows.inputs.min(axis=0)
    high = 255 if is_image else rows.inputs.max(axis=0)
    coins = rng.random((count, *rows.inputs.shape[1:])) < 0.5
    inputs = np.where(coins, low, high).astype(rows.inputs.dtype)
    return Split(inputs, rng.integers(0, len(task.labels), count, dtype=np.int64))


def flip_coins(secret: bytes, count: int, *names: str | int) -> np.ndarray:
    """Shape (count,) bool: fair coins that nobody without the 32 bytes of the secret can compute.

    Args:
      names: of the purpose: another audit has other coins.
    """
    stream = SecretStream(derived_key(secret, "audit coins", *names))
    bits = np.unpackbits(np.frombuffer(stream.bytes(-(-count // 8)), np.uint8))
    return bits[:count].astype(bool)


def joined(rows: Split, more: Split) -> Split:
    """The records of both, in that order."""
    return Split(
        np.concatenate([rows.inputs, more.inputs]), np.concatenate([rows.targets, more.targets])
    )
