"""Owner ids: the natural clients of a data set, in the one form that ids of clients may have."""

from __future__ import annotations

import re

import numpy as np

CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def owner_ids(values: np.ndarray) -> np.ndarray:
    """(n,) str ids of the owners; as :func:`plain_ids`.

    >>> owner_ids(np.array(["St Mary", "north", "north"])).tolist()
    ['St-Mary', 'north', 'north']
    """
    return plain_ids(values, noun="owner", of="a client")


def plain_ids(values: np.ndarray, *, noun: str, of: str) -> np.ndarray:
    """(n,) str ids; spaces inside become ``-``, everything else must fit already.

    They name files, tasks and tags, so they are letters, digits, ``_``, ``.`` and ``-``, at most
    64, and start with a letter or digit.

    Args:
      values: (n,) texts, or what can be one.
      noun: what each is, for messages.
      of: what its id will be of, for messages.

    Raises:
      ValueError: a text does not fit, or two become the same id; names them and the way out.
    """
    texts = np.asarray(values).astype(str)
    ids: dict[str, str] = {}
    for text in sorted(set(texts.tolist())):
        name = re.sub(r"\s+", "-", text.strip())
        if not CLIENT_ID.fullmatch(name):
            raise ValueError(
                f"{noun}={text!r} cannot be the id of {of}: 1 to 64 letters, digits, '_', '.' "
                "or '-', the first a letter or digit. Rename it in the data."
            )
        ids[text] = name
    merged = [text for text in ids if list(ids.values()).count(ids[text]) > 1]
    if merged:
        raise ValueError(
            f"{noun}s {merged!r} become the same id {ids[merged[0]]!r}. Rename them in the data."
        )
    return np.array([ids[text] for text in texts.tolist()], dtype=str)
