"""Start a server once more on its port: what a killed parent left there is ended first.

``mlflow server`` answers in a child process. When the parent is killed the child goes on, holds the
port and keeps the restarted one from starting.
"""

from __future__ import annotations

import os
import sys

import psutil

from deployments.stack import processes
from deployments.stack.ports import listens

SECONDS_TO_END = 5.0


def leftovers(home: str, port: int) -> list[psutil.Process]:
    """Processes of the stack in ``home`` that listen on the port."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("FEDLOOM_HOME") == home
        except psutil.Error:
            continue
        if is_ours and listens(process, port):
            found.append(process)
    return found


def main() -> None:
    """``python -m deployments.stack.alone PORT PROGRAM [argument ...]``."""
    port, *command = sys.argv[1:]
    processes.end(leftovers(os.environ["FEDLOOM_HOME"], int(port)), seconds=SECONDS_TO_END)
    # The same process, so that supervisord keeps what it started.
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
