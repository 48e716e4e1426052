"""Persistent worker processes with one torch thread each; a killed one is replaced.

Plain subprocesses and JSON lines, not ``concurrent.futures``: nothing is pickled, the caller's
``__main__`` is not imported again, a worker that dies breaks only its own call, and workers see the
end of their standard input when the parent is killed, however it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

# Read by the libraries when they are imported, hence set in the environment of the new process.
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
}


class WorkerDied(RuntimeError):
    """A worker process ended before its answer, as often as the call was tried."""


class WorkerFailed(RuntimeError):
    """The called function raised; the message names the exception, its traceback is on stderr."""


class _Died(Exception):
    """A worker process ended before its answer."""


class _Worker:
    """One process, started at its first call; one caller at a time, anybody may ``end`` it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._is_ended = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def call(self, request: str) -> str:
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker is started with pipes")
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply.endswith("\n"):
            raise _Died(_how(process.wait()))
        return reply

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._is_ended:
                raise _Died("ended with its pool")
            if self._process is None:
                self._process = subprocess.Popen(
                    # -P: the working directory must not shadow packages.
                    [sys.executable, "-P", "-m", "fedcore.training.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                        **ONE_THREAD,
                        **self._environment,
                    },
                )
            return self._process

    def end(self) -> None:
        """Kill the process for good; a call that waits for it raises."""
        with self._lock:
            self._is_ended = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def reset(self) -> None:
        """By the caller only: kill the process and forget it; the next call starts another."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


class WorkerPool:
    """``workers`` persistent processes; calls from any number of threads wait for a free one.

    >>> from fedcore.digests import canonical_json
    >>> with WorkerPool(1) as pool:
    ...     pool.run(canonical_json, "a")
    '"a"'
    """

    def __init__(self, workers: int, *, environment: Mapping[str, str] | None = None) -> None:
        """
        Args:
          workers: number of processes, at least 1; each is started when it is first needed.
          environment: variables for them besides this process's own.
        """
        if workers < 1:
            raise ValueError(f"workers={workers} must be at least 1.")
        self.workers = workers
        self._all = [_Worker(environment or {}) for _ in range(workers)]
        # Last in, first out: a worker that has its imports and its backbone is used again.
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in reversed(self._all):
            self._free.put(worker)
        self._is_closed = False

    def run(self, function: Callable[[str], str], payload: str, *, retries: int = 1) -> str:
        """``function(payload)`` in a worker process; blocks until it is there.

        Args:
          function: a module's own function, importable by its name in a new process.
          payload: text, usually JSON.
          retries: how often the call is made again when its process dies.

        Raises:
          WorkerDied: the process ended in every try, or the pool was closed.
          WorkerFailed: the function raised; an ``OSError`` is raised as such.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        request = json.dumps({"call": name, "payload": payload})
        worker = self._free.get()
        try:
            return _result(self._answer(worker, request, retries))
        finally:
            self._free.put(worker)

    def _answer(self, worker: _Worker, request: str, retries: int) -> str:
        deaths: list[str] = []
        while len(deaths) <= retries and not self._is_closed:
            try:
                return worker.call(request)
            except _Died as death:
                deaths.append(str(death))
                worker.reset()
            except BaseException:
                worker.reset()  # interrupted: its answer would be taken for the next call's
                raise
        if self._is_closed:
            worker.reset()
            raise WorkerDied("the pool of workers is closed; open a new one.")
        raise WorkerDied(
            f"the worker process did not answer in {len(deaths)} tries: {'; '.join(deaths)}. "
            "SIGKILL usually means that memory ran out: use fewer workers or a smaller batch_size."
        )

    def pids(self) -> list[int]:
        """Ids of the processes that are running."""
        return [pid for worker in self._all if (pid := worker.pid) is not None]

    def close(self) -> None:
        """End all processes; calls that are running raise :class:`WorkerDied`."""
        self._is_closed = True
        for worker in self._all:
            worker.end()
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._free.get_nowait())
        for worker in idle:
            worker.reset()
            self._free.put(worker)  # whoever waits for one is told that the pool is closed

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _result(reply: str) -> str:
    value = json.loads(reply)
    if "error" not in value:
        result: str = value["result"]
        return result
    if value["errno"] is not None:
        raise OSError(value["errno"], value["error"])
    raise WorkerFailed(value["error"])


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"killed by {signal.Signals(-code).name}"
