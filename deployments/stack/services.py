"""The services of a stack: their commands and their environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from deployments.stack.database import databases
from deployments.stack.stack import (
    AUTH_VARIABLE,
    LOOPBACK,
    POOL,
    POSTGRES,
    PUBLIC_HOST,
    Stack,
    auth_string,
    data_environment,
    environment,
)


@dataclass(frozen=True)
class Service:
    """A long-running command.

    Attributes:
      name: also the name of its log file.
      command: program and arguments.
      starts_by_itself: False for what must wait until another service answers.
      order: services with higher numbers end first.
      stop_seconds: patience before it is killed.
      stop_signal: what asks it to end.
      stops_as_group: whether its children are asked too.
      user: whom it runs as, where that is not who we are.
    """

    name: str
    command: tuple[str, ...]
    starts_by_itself: bool
    order: int
    stop_seconds: int
    stop_signal: str = "TERM"
    stops_as_group: bool = True
    user: str = ""


def services(stack: Stack) -> tuple[Service, ...]:
    """PostgreSQL where the stack has its own, Prefect server, MLflow server, worker, and the
    gateway where a site has a token; for this stack's ports and folders."""
    # Not `prefect server start`: it is this same uvicorn command, without our browser policy.
    prefect = (
        *(sys.executable, "-m", "uvicorn", "--factory", "deployments.stack.console:create_app"),
        *("--host", LOOPBACK, "--port", str(stack.prefect_port)),
        *("--timeout-keep-alive", "60", "--log-level", "warning"),
    )
    # The default middleware admits loopback names only; artifacts travel through the server.
    mlflow = (
        *(sys.executable, "-m", "deployments.stack.alone", str(stack.mlflow_port)),
        *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK),
        *("--port", str(stack.mlflow_port), "--workers", "1"),
        *("--serve-artifacts", "--artifacts-destination", str(stack.home / "mlflow" / "artifacts")),
        *(("--app-name", "fedloom") if stack.auth else ()),
    )
    # No --limit: with it, a Retry within a second of a run's end ends Prefect 3.8.8's worker
    # (prefect/workers/base.py, _submit_scheduled_flow_runs). The pool has a limit instead.
    worker = (
        *(sys.executable, "-m", "deployments.stack.worker", POOL),
        *("--type", "process", "--name", "local", "--install-policy", "never"),
    )
    has_own_postgres = stack.database == POSTGRES
    # With databases of their own to be made first, the servers wait for that.
    by_itself = not has_own_postgres
    return (
        *((postgres_service(stack),) if has_own_postgres else ()),
        Service("prefect", prefect, starts_by_itself=by_itself, order=1, stop_seconds=15),
        Service("mlflow", mlflow, starts_by_itself=by_itself, order=2, stop_seconds=10),
        Service("worker", worker, starts_by_itself=False, order=3, stop_seconds=20),
        *((gateway_service(stack),) if stack.gateway_port else ()),
    )


def gateway_service(stack: Stack) -> Service:
    """The one way by which sites reach Prefect's API; it says so while that is away."""
    from deployments.gateway.server import server_command

    command = server_command(stack.home, stack.gateway_port)
    return Service("gateway", command, starts_by_itself=True, order=4, stop_seconds=10)


def postgres_service(stack: Stack) -> Service:
    """The cluster of the stack's own; it ends last."""
    from deployments.stack.postgres import server_command, server_user

    return Service(
        "postgres",
        server_command(stack),
        starts_by_itself=True,
        order=0,
        stop_seconds=30,
        stop_signal="INT",  # does not wait for connections to end
        stops_as_group=False,  # its children end by its own word
        user=server_user(),
    )


def service_environment(stack: Stack, outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of all services and of the flow runs that the worker starts.

    What ``outer`` says about Prefect and MLflow belongs to other servers and is left out;
    ``FEDLOOM_DATA``, ``HF_HUB_OFFLINE`` and the rest pass through.
    """
    kept = {
        key: value for key, value in outer.items() if not key.startswith(("PREFECT_", "MLFLOW_"))
    }
    # By default events are written one at a time: 20 task runs a second. These settings: 95.
    recorders = {
        f"PREFECT_SERVER_SERVICES_{service}_{key}": value
        for service in ("TASK_RUN_RECORDER", "EVENT_PERSISTER")
        for key, value in {
            "BATCH_SIZE": "200",
            "READ_BATCH_SIZE": "200",
            "FLUSH_INTERVAL": "1",
        }.items()
    }
    return {
        **kept,
        **data_environment(kept),
        **environment(stack),
        **recorders,
        "PYTHONUNBUFFERED": "1",
        # A folder named `tasks` where a run works must not hide ours.
        "PYTHONSAFEPATH": "1",
        "PREFECT_API_DATABASE_CONNECTION_URL": databases(stack).prefect,
        "MLFLOW_BACKEND_STORE_URI": databases(stack).mlflow,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": stack.prefect_ui_url,
        **server_password(stack),
        **public_names(stack),
        # Else the pages call port 4200 whatever the server's port.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # One console: the one that our links open, with Resume, Cancel and Retry as buttons of a
        # run's page. The other hides them in a menu and is a click away.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_URL": stack.public_url or stack.prefect_ui_url,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        # Runs tell that they live; the automation that misses it marks them as crashed.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # A cancelled run that never started is ended too.
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


def server_password(stack: Stack) -> dict[str, str]:
    """What the servers compare with; empty when they are open."""
    return {AUTH_VARIABLE: auth_string(stack.home)} if stack.auth else {}


def public_names(stack: Stack) -> dict[str, str]:
    """The name of a reverse proxy, for what refuses foreign names and foreign pages."""
    if not stack.public_url:
        return {}
    host = urlsplit(stack.public_url).netloc
    here = f"{LOOPBACK}:*,localhost:*,{LOOPBACK},localhost"
    return {
        PUBLIC_HOST: urlsplit(stack.public_url).hostname or "",
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{here},{host}",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"{stack.public_url},{stack.mlflow_url}",
    }
