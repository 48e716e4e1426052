"""Free loopback ports, and who holds one that is not free."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from textwrap import shorten
from typing import IO

import psutil

from deployments.stack.stack import LOOPBACK


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_port(preferred: int, *, taken: frozenset[int] = frozenset()) -> int:
    """``preferred`` when it is free, else one that the operating system names.

    Args:
      preferred: a port number.
      taken: ports that are spoken for though nobody listens yet.
    """
    if preferred not in taken and is_free(preferred) and _claim(preferred):
        return preferred
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
        if port not in taken and _claim(port):
            return port


# Locks of the ports that this process chose, held while it lives: two stacks that start at once
# must not choose the same port before either listens.
_CLAIMS: dict[int, IO[str]] = {}


def _claim(port: int) -> bool:
    if port in _CLAIMS:
        return True
    path = Path(tempfile.gettempdir()) / f"fedloom-{os.getuid()}-port-{port}.lock"
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    _CLAIMS[port] = lock
    return True


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this very process listens on the port."""
    try:
        held = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(
        one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port for one in held
    )


def describe_holder(port: int) -> str:
    """Who listens on the port, in words, as far as this user may know."""
    try:
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.laddr
            and connection.laddr.port == port
            and connection.status == psutil.CONN_LISTEN
        }
        process = psutil.Process(next(pid for pid in pids if pid))
        words = shorten(" ".join(process.cmdline()), 100, placeholder=" ...")
        return f"process {process.pid} ({words})"
    except (psutil.Error, StopIteration):
        return "another process"
