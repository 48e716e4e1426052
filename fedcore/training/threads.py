"""One torch thread: the same sums in the same order in every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread in this scope; the former number is restored after it.

    The order of additions inside a matrix product depends on the number of threads, so without it
    an in-process run and one in worker processes would end with different bytes.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
