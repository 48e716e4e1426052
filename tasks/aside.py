"""What is shown while a run goes on: the rounds do not wait for the pages, nor fail with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import ParamSpec

P = ParamSpec("P")
Warn = Callable[[str], None]


@contextmanager
def aside(show: Callable[P, object], warn: Warn) -> Iterator[Callable[P, None]]:
    """``show`` that returns at once: its calls are made in another thread, in their order.

    The block ends when all are made.

    Args:
      warn: told, once, where ``show`` raises.
    """
    tried = guarded(show, warn)
    with ThreadPoolExecutor(1, thread_name_prefix="aside") as thread:

        def later(*args: P.args, **options: P.kwargs) -> None:
            context = copy_context()  # Prefect reads there whose it is
            thread.submit(lambda: context.run(tried, *args, **options))

        yield later


def guarded(show: Callable[P, object], warn: Warn) -> Callable[P, None]:
    """``show`` that warns, once, where it would raise."""
    has_warned = False

    def try_to_show(*args: P.args, **options: P.kwargs) -> None:
        nonlocal has_warned
        try:
            show(*args, **options)
        except Exception as error:
            if not has_warned:
                warn(f"the run goes on; Prefect did not take what it was told: {error!r}")
            has_warned = True

    return try_to_show
