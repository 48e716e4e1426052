"""One thread for torch or numpy: the same sums in the same order in every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


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


def one_blas_thread() -> AbstractContextManager[Any]:
    """Numpy's linear algebra computes on one thread in this scope."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Finding the libraries takes milliseconds; numpy has loaded its own by then."""
    import numpy as np  # noqa: F401

    return ThreadpoolController()
