"""The terminal: one console, and failures that a person can act on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(reason: object, *, code: int = 1) -> NoReturn:
    """End the command with a reason on stderr."""
    text = Text("error: ", style="bold red")
    text.append(str(reason), style="default")
    err.print(text, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def reasons_for(*expected: type[Exception]) -> Iterator[None]:
    """Expected failures end the command with their message; anything else is our own fault and
    shows its traceback."""
    try:
        yield
    except expected as error:
        fail(error)


@contextmanager
def steps(first: str) -> Iterator[Callable[[str], None]]:
    """Tells where a slow command is: a spinner on a terminal, one line per step elsewhere."""
    if out.is_terminal:
        with out.status(first) as status:

            def tell(step: str) -> None:
                if step.endswith(": ready") or " uses port " in step:
                    out.print(step)
                status.update(step)

            yield tell
        return
    told: set[str] = set()

    def tell_once(step: str) -> None:
        what = step.split(",")[0]  # without the seconds
        if what not in told:
            told.add(what)
            print(step, file=sys.stdout, flush=True)

    yield tell_once
