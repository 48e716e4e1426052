"""supervisord keeps the services: it starts them, restarts what dies, keeps their logs.

It is one of the oldest process supervisors, in pure Python from PyPI, needs no setuptools on
Python 3.11, goes to the background by itself and answers on a unix socket of ours only.
http://supervisord.org
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from deployments.stack.services import Service, service_environment, services
from deployments.stack.stack import Stack, StackError

# sockaddr_un: 108 bytes on Linux, 104 on macOS; supervisord first binds a name a bit longer.
LONGEST_SOCKET_PATH = 88


def log_path(home: Path, service: str) -> Path:
    """The log of a service; ``supervisord`` has one too."""
    return home / "logs" / f"{service}.log"


def last_lines(path: Path, count: int = 12) -> str:
    """The end of a log, indented; empty when there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines)


def start_supervisor(stack: Stack) -> int:
    """Start supervisord in the background; it starts what starts by itself. Returns its pid.

    Raises:
      StackError: it did not start.
    """
    for folder in ("logs", "prefect", "mlflow/artifacts"):
        (stack.home / folder).mkdir(parents=True, exist_ok=True)
    config = stack.home / "supervisord.conf"
    config.write_text(supervisor_config(stack.home, services(stack)))
    pid_file = stack.home / "supervisord.pid"
    pid_file.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        env=service_environment(stack),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0 and _wait_until(lambda: _answers(stack.home), seconds=20):
        return int(pid_file.read_text())
    raise StackError(
        f"supervisord did not start: {(done.stdout + done.stderr).strip() or 'no answer'}\n"
        f"{last_lines(log_path(stack.home, 'supervisord'))}"
    )


def supervisor_config(home: Path, kept: tuple[Service, ...]) -> str:
    """supervisord's configuration file for these services; logs and socket are in ``home``."""
    programs = [
        [
            f"[program:{service.name}]",
            f"command={' '.join(_quoted(word) for word in service.command)}",
            f"autostart={str(service.starts_by_itself).lower()}",
            "autorestart=true",
            "startsecs=3",
            "startretries=2",
            f"priority={service.order}",
            f"stopwaitsecs={service.stop_seconds}",
            f"stopsignal={service.stop_signal}",
            f"stopasgroup={str(service.stops_as_group).lower()}",
            "killasgroup=true",
            *([f"user={service.user}"] if service.user else []),
            "redirect_stderr=true",
            f"stdout_logfile={_plain(log_path(home, service.name))}",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=2",
        ]
        for service in kept
    ]
    own = [
        "; Written by fedloom at each start; edits are lost.",
        "[supervisord]",
        f"logfile={_plain(log_path(home, 'supervisord'))}",
        f"pidfile={_plain(home / 'supervisord.pid')}",
        f"directory={_plain(home)}",
        "identifier=fedloom",
        "nocleanup=true",
        "[unix_http_server]",
        f"file={_plain(socket_path(home))}",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    return "\n".join(own + [line for program in programs for line in program]) + "\n"


def socket_path(home: Path) -> Path:
    """supervisord's socket: in ``home``, or in the temporary folder when that name is too long."""
    path = home / "supervisord.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fedloom-{os.getuid()}-{name}.sock"


def supervisor(home: Path) -> Any:
    """supervisord's own interface, ``http://supervisord.org/api.html``."""
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{socket_path(home)}")
    return ServerProxy("http://127.0.0.1", transport=transport).supervisor


def service_states(home: Path) -> Mapping[str, Mapping[str, Any]]:
    """What supervisord says of each service: statename, pid, spawnerr... Empty when it is gone."""
    try:
        return {info["name"]: info for info in supervisor(home).getAllProcessInfo()}
    except (OSError, Fault):
        return {}


def _answers(home: Path) -> bool:
    return bool(service_states(home))


def _wait_until(condition: Any, *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _plain(path: Path) -> str:
    return _refuse_special(str(path))


def _quoted(word: str) -> str:
    return f'"{_refuse_special(word)}"'


def _refuse_special(text: str) -> str:
    # supervisord expands %(name)s, some values twice, and takes ; for a comment.
    if special := set(text) & set('%;"\\\n'):
        raise StackError(
            f"{text!r} has {' '.join(sorted(special))!r} in its name, which supervisord cannot "
            "read. Set FEDLOOM_HOME to a folder with a plain name."
        )
    return text
