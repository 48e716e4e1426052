"""Check for texts that are nearly the same at two clients."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Set
from itertools import product
from typing import TYPE_CHECKING

from fedcore.audit.checks.near_texts import signatures_in
from fedcore.audit.finding import Finding
from fedcore.audit.minhash import RUN, alike
from fedcore.audit.wording import EXAMPLES, at_clients, count_of, have, place

if TYPE_CHECKING:
    import pandas as pd


def check_alike_at_clients(table: pd.DataFrame, *, similarity: float | None) -> tuple[Finding, ...]:
    """No training text shares most of its runs of words with a text of another client.

    As :func:`fedcore.audit.checks.near_texts.check_near_texts`, on the placement table. Texts that
    are the same are left to the check for what clients share. Nothing is looked for when the
    similarity is None, or among images: small pictures of two clients often look alike by chance.
    """
    if similarity is None or "signature" not in table:
        return ()
    rows = table[(table["split"] == "train") & table["client"].notna() & table["digest"].notna()]
    holders = {
        str(digest): frozenset(held)
        for digest, held in rows.groupby("digest", sort=False)["client"]
    }
    texts = rows.drop_duplicates("digest")
    digests, signatures = texts["digest"].tolist(), signatures_in(texts)
    shared, clients, closest = 0, set[str](), list[tuple[float, int, int]]()
    for one, others, shares in alike(signatures, signatures, similarity):
        elsewhere = [
            (float(share), -one, -int(other))
            for other, share in zip(others, shares, strict=True)
            if other != one and _at_two(holders, digests[one], digests[other])
        ]
        if elsewhere:
            shared += 1
            clients |= holders[digests[one]]
            pairs = [pair for pair in elsewhere if pair[1] > pair[2]]  # each once
            closest = heapq.nlargest(EXAMPLES, [*closest, *pairs])
    if not shared:
        return ()
    message = (
        f"{count_of(shared, 'text')} of train {have(shared)} at least {similarity:.0%} of runs of "
        f"{RUN} words in common with a text of another client, {at_clients(clients)}."
    )
    examples = tuple(
        f"{_apart(rows, digests[-one], digests[-other])} ({share:.0%})"
        for share, one, other in closest
    )
    return (Finding("alike-at-clients", "warning", ("train",), shared, message, examples),)


def _at_two(holders: Mapping[str, Set[str]], one: str, other: str) -> bool:
    return len(holders[one] | holders[other]) > 1


def _apart(rows: pd.DataFrame, one: str, other: str) -> str:
    """The first places of two texts that are at different clients."""
    these, those = (rows[rows["digest"] == digest].iterrows() for digest in (one, other))
    left, right = next(
        (left, right)
        for (_, left), (_, right) in product(these, those)
        if left["client"] != right["client"]
    )
    return f"{place(left)} at {left['client']} ~ {place(right)} at {right['client']}"
