"""Where a local stack answers and where it keeps its state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

POOL = "fedloom"
LOOPBACK = "127.0.0.1"
AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
SQLITE, POSTGRES = "sqlite", "postgres"
PUBLIC_HOST = "FEDLOOM_PUBLIC_HOST"


# Kept in stack.json, so that a second `up` needs not be told again.
OPTIONS = ("database", "postgres_port", "auth", "public_url", "gateway_port")


class StackError(RuntimeError):
    """The stack cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Process:
    """A process that we started. The start time tells it from a later one with the same number."""

    pid: int
    started: float


@dataclass(frozen=True)
class Stack:
    """One local stack.

    Attributes:
      home: folder of all its state, absolute.
      prefect_port: loopback port of the Prefect server.
      mlflow_port: loopback port of the MLflow server.
      processes: what was started, by name; empty before that.
      database: ``sqlite``, ``postgres`` for a cluster of its own, or the URL of a PostgreSQL
        server, without its password.
      postgres_port: loopback port of the cluster of its own; 0 without one.
      auth: Prefect's API and MLflow want a password.
      public_url: where a reverse proxy shows the stack, e.g. ``https://fl.example``; empty when
        there is none.
      gateway_port: loopback port of the gateway of sites; 0 while no site has a token.
    """

    home: Path
    prefect_port: int
    mlflow_port: int
    processes: dict[str, Process] = field(default_factory=dict)
    database: str = SQLITE
    postgres_port: int = 0
    auth: bool = False
    public_url: str = ""
    gateway_port: int = 0

    @property
    def prefect_ui_url(self) -> str:
        """Prefect's console."""
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def prefect_api_url(self) -> str:
        """Prefect's API, for ``PREFECT_API_URL``."""
        return f"{self.prefect_ui_url}/api"

    @property
    def mlflow_url(self) -> str:
        """MLflow's pages and API, for ``MLFLOW_TRACKING_URI``."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    @property
    def gateway_url(self) -> str:
        """Prefect's API as sites see it, behind the gateway."""
        return f"http://{LOOPBACK}:{self.gateway_port}/api"

    def flow_run_url(self, flow_run_id: str) -> str:
        """The page of a flow run in Prefect's console."""
        return f"{self.prefect_ui_url}/runs/flow-run/{flow_run_id}"


def stack_home(home: str | Path | None = None) -> Path:
    """The folder of a stack: the argument, else ``FEDLOOM_HOME``, else ``.fedloom`` here."""
    return Path(home or os.environ.get("FEDLOOM_HOME") or ".fedloom").absolute()


def environment(stack: Stack) -> dict[str, str]:
    """What a process needs to work with this stack, to be laid over ``os.environ``. It may hold
    secrets: not for any log, file or command line."""
    return {**public_environment(stack), **secret_environment(stack)}


def public_environment(stack: Stack) -> dict[str, str]:
    """The part of ``environment`` that anybody may see."""
    return {
        "FEDLOOM_HOME": str(stack.home),
        "PREFECT_API_URL": stack.prefect_api_url,
        "PREFECT_HOME": str(stack.home / "prefect"),
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        **_events_environment(stack),
    }


def access(stack: Stack) -> dict[str, str]:
    """What this process needs to talk to the stack's servers as one of its own."""
    return {**_events_environment(stack), **secret_environment(stack)}


def _events_environment(stack: Stack) -> dict[str, str]:
    from deployments.stack.database import databases

    events = databases(stack).events
    return {"FEDLOOM_EVENTS": events} if events else {}


def secret_environment(stack: Stack) -> dict[str, str]:
    """The part of ``environment`` that nobody else may see; empty when there is no password."""
    if not stack.auth:
        return {}
    auth = auth_string(stack.home)
    user, _, word = auth.partition(":")
    return {
        "PREFECT_API_AUTH_STRING": auth,
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": word,
    }


def auth_file(home: Path) -> Path:
    """``USER:PASSWORD`` of Prefect's API and MLflow."""
    return home / "secrets" / "api"


def pgpass_file(home: Path) -> Path:
    """Password of the PostgreSQL server, as its drivers read it."""
    return home / "secrets" / "pgpass"


def auth_string(home: Path) -> str:
    """What ``auth_file`` holds.

    Raises:
      StackError: there is no such file.
    """
    try:
        return auth_file(home).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StackError(
            f"The password of this stack cannot be read from {auth_file(home)}: {error.strerror}. "
            "`fedloom stack down`, then `fedloom stack up --auth` makes a new one."
        ) from error


def data_environment(outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Where whoever asks for a run has data sets, as a full path, and whether to keep off the
    Hugging Face hub: what a run needs to know of ``outer``. What is not set there is left out."""
    seen = {name: outer[name] for name in ("FEDLOOM_DATA", "HF_HUB_OFFLINE") if outer.get(name)}
    if data := seen.get("FEDLOOM_DATA"):
        seen["FEDLOOM_DATA"] = str(Path(data).expanduser().resolve())
    return seen


def read_stack(home: Path) -> Stack | None:
    """The stack that was last started in ``home``, running or not; None when there was none.

    Raises:
      StackError: the file that says so is damaged.
    """
    path = home / "stack.json"
    try:
        values = json.loads(path.read_text())
        processes = {name: Process(**process) for name, process in values["processes"].items()}
        options = {name: values[name] for name in OPTIONS if name in values}
        return Stack(home, values["prefect_port"], values["mlflow_port"], processes, **options)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{path} is damaged ({error!r}). Remove it once no process of that stack runs any more."
        ) from error


def write_stack(stack: Stack, folder: Path | None = None) -> None:
    """Keep the stack in its home (or in ``folder``, which will be), in one step, so that a reader
    never sees half of it."""
    values = {key: value for key, value in asdict(stack).items() if key != "home"}
    urls = {"prefect_ui_url": stack.prefect_ui_url, **public_environment(stack)}
    folder = folder or stack.home
    part = folder / "stack.json.part"
    part.write_text(json.dumps({**values, "urls": urls}, indent=2) + "\n")
    part.replace(folder / "stack.json")
