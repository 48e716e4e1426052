"""The body of a worker process: one job at a time, JSON lines in and out, until its parent is gone.

Started by :mod:`fedcore.training.pool` as ``python -m fedcore.training.worker``. A line in is
``{"call": "module:function", "payload": text}``; a line out has ``result`` or ``error``.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    calls: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls,), daemon=True).start()
    while True:
        replies.write(json.dumps(answer(json.loads(calls.get()))) + "\n")
        replies.flush()


def _read(calls: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        calls.put(line)
    # The parent closed the pipe or was killed: nobody waits for what may still be running.
    os._exit(0)


def answer(request: dict[str, str]) -> dict[str, Any]:
    """The reply to one call.

    >>> answer({"call": "fedcore.digests:canonical_json", "payload": "a"})
    {'result': '"a"'}
    """
    try:
        module, _, function = request["call"].partition(":")
        return {"result": getattr(importlib.import_module(module), function)(request["payload"])}
    except Exception as error:
        traceback.print_exc()
        return {
            "error": f"{type(error).__name__}: {error}",
            "errno": getattr(error, "errno", None) if isinstance(error, OSError) else None,
        }


if __name__ == "__main__":
    main()
