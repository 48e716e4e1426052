"""How the gateway is started."""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.gateway.limits import read_limits
from deployments.stack.stack import LOOPBACK


def server_command(home: Path, port: int) -> tuple[str, ...]:
    """The program that serves a stack's gateway on a loopback port.

    Raises:
      StackError: its limits cannot be read.
    """
    return (
        *(sys.executable, "-m", "uvicorn", "--factory", "deployments.gateway.app:create_app"),
        *("--host", LOOPBACK, "--port", str(port), "--no-access-log"),
        *("--log-level", "error"),  # a warning for each request that is none would fill a disk
        *("--no-server-header", "--limit-concurrency", "2000", "--timeout-keep-alive", "60"),
        *("--ws-max-size", str(read_limits(home).most_bytes)),
        # A compressed message may be small and become large.
        *("--ws-per-message-deflate", "false"),
    )
