"""The identity of processes: whether one that we started still runs, and its descendants."""

from __future__ import annotations

import psutil

from deployments.stack.stack import Process

# Start times are read from the boot time and a tick count; they agree to a hundredth of a second.
SAME_START_SECONDS = 0.1


def identify(pid: int) -> Process:
    """The process with this number, now.

    Raises:
      psutil.NoSuchProcess: there is none.
    """
    return Process(pid, psutil.Process(pid).create_time())


def find(process: Process) -> psutil.Process | None:
    """The running process, or None when it ended, even if its number was given out again."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < SAME_START_SECONDS
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def with_descendants(processes: list[Process]) -> list[psutil.Process]:
    """Those of ``processes`` that run, and everything they started.

    A flow run leads a session of its own, so that no signal to the worker's group reaches it.
    """
    found: dict[int, psutil.Process] = {}
    for process in processes:
        if running := find(process):
            try:
                family = [running, *running.children(recursive=True)]
            except psutil.Error:
                family = [running]
            found.update({member.pid: member for member in family})
    return list(found.values())


def end(processes: list[psutil.Process], *, seconds: float) -> None:
    """Ask to terminate, wait, then kill what is left. psutil checks each one's identity again."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=seconds)
