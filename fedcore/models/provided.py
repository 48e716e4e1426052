"""Models from Python for runs in this process: what an entry point is to YAML."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

Factory = Callable[..., Any]
_PROVIDED: ContextVar[Mapping[str, Factory]] = ContextVar("_PROVIDED", default={})  # noqa: B039 - never changed


@contextmanager
def provided(**factories: Factory) -> Iterator[None]:
    """In this scope ``{"kind": "plugin", "name": NAME}`` builds with the given factory.

    For notebooks and scripts with :class:`fedcore.engines.in_process.InProcessEngine`; worker
    processes do not see it: install the factory as an entry point ``fedloom.models`` for them.

    Args:
      factories: name -> ``factory(task, input_shape, **options) -> torch.nn.Module``.
    """
    token = _PROVIDED.set({**_PROVIDED.get(), **factories})
    try:
        yield
    finally:
        _PROVIDED.reset(token)


def find(name: str) -> Factory | None:
    """The factory provided under ``name`` in this scope."""
    return _PROVIDED.get().get(name)


def source_digest(name: str) -> str | None:
    """SHA-256 of the file that defines the provided factory, for job keys; None: not provided.

    Raises:
      ValueError: the source cannot be read, e.g. of a factory typed at a prompt.
    """
    factory = find(name)
    if factory is None:
        return None
    try:
        file = inspect.getsourcefile(inspect.unwrap(factory))
        source = Path(file).read_bytes() if file else None
    except (OSError, TypeError):
        source = None
    if source is None:
        try:
            source = inspect.getsource(factory).encode()  # notebooks keep it
        except (OSError, TypeError):
            raise ValueError(
                f"the source of the provided model {name!r} cannot be read, so that its work has "
                "no identity; put the factory into a file or a notebook cell."
            ) from None
    return hashlib.sha256(source).hexdigest()
