"""Bring a stack up, end it, tell what runs."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import psutil

from deployments.stack import processes
from deployments.stack.health import answers
from deployments.stack.options import Options, refuse_other_options, with_gateway, with_options
from deployments.stack.ports import choose_port, describe_holder, is_free, listens
from deployments.stack.stack import (
    POSTGRES,
    Process,
    Stack,
    StackError,
    read_stack,
    write_stack,
)
from deployments.stack.supervision import (
    last_lines,
    log_path,
    service_states,
    socket_path,
    start_supervisor,
    supervisor,
)

PREFECT_PORT = 4200
MLFLOW_PORT = 5000
# The first start of a Prefect server on a busy machine takes 45 s.
START_SECONDS = 180.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ServiceStatus:
    """One line of ``fedloom stack status``."""

    name: str
    state: str
    pid: int
    answers: bool
    where: str


def bring_up(
    home: Path,
    *,
    prefect_port: int | None = None,
    mlflow_port: int | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    tell: Tell = print,
) -> Stack:
    """A stack in ``home`` whose services answer; one that runs already is left as it is.

    Args:
      home: folder of all its state.
      prefect_port, mlflow_port: this port or none; by default 4200 and 5000 where they are free.
      options: databases, password, public name; by default as the last time.
      tell: called with one line per step.

    Raises:
      StackError: a port is taken, left-over processes are in the way, or a service does not start.
    """
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        earlier = read_stack(home)
        if earlier and _keeper(earlier):
            stack = earlier
            _refuse_other_ports(stack, prefect_port, mlflow_port)
            refuse_other_options(stack, options)
        else:
            _refuse_leftovers(earlier)
            stack = _with_ports(home, earlier, prefect_port, mlflow_port, tell)
            stack = with_options(stack, earlier, options, tell)
            stack = with_gateway(stack, earlier, tell)
            pid = start_supervisor(stack)
            stack = replace(stack, processes={"supervisord": processes.identify(pid)})
            write_stack(stack)
        if stack.database == POSTGRES:
            _await_service(stack, "postgres", tell)
            _begin_servers(stack)
        for service in answers(stack):
            _await_service(stack, service, tell)
        stack = replace(stack, processes={**stack.processes, **_service_processes(home)})
        write_stack(stack)
        return stack


def bring_down(home: Path, *, tell: Tell = print) -> bool:
    """End what ``bring_up`` started in ``home``, flow runs of its worker too.

    Returns: whether anything ran.
    """
    with _only_one(home) if home.exists() else _nothing():
        stack = read_stack(home)
        if stack is None:
            return False
        # Taken before the end: afterwards nobody knows whose children they were.
        now = _service_processes(home)
        started = [*stack.processes.values(), *now.values()]
        family = processes.with_descendants(started)
        if not family:
            return False
        if keeper := _keeper(stack):
            _end_flow_runs(now.get("worker"), tell)
            tell("Ending worker, MLflow server and Prefect server")
            try:
                supervisor(home).shutdown()
            except (OSError, Fault):
                keeper.terminate()
            deadline = time.monotonic() + 60
            while _keeper(stack) and time.monotonic() < deadline:
                time.sleep(0.2)
        processes.end([one for one in family if one.is_running()], seconds=10)
        socket_path(home).unlink(missing_ok=True)  # a killed supervisord leaves it
        return True


def running_stack(home: Path) -> Stack | None:
    """The stack of ``home`` when its supervisor runs."""
    stack = read_stack(home)
    return stack if stack and _keeper(stack) else None


def stack_status(stack: Stack) -> list[ServiceStatus]:
    """What supervisord and the services themselves say."""
    where = {
        "postgres": f"port {stack.postgres_port}",
        "prefect": stack.prefect_ui_url,
        "mlflow": stack.mlflow_url,
        "worker": "pool fedloom",
        "gateway": stack.gateway_url,
    }
    states = service_states(stack.home)
    return [
        ServiceStatus(
            name=name,
            state=states.get(name, {}).get("statename", "GONE").lower(),
            pid=states.get(name, {}).get("pid", 0),
            answers=does_answer(stack),
            where=where[name],
        )
        for name, does_answer in answers(stack).items()
    ]


def _keeper(stack: Stack) -> psutil.Process | None:
    """The supervisor that was started, if it runs; a restored stack has none yet."""
    supervisord = stack.processes.get("supervisord")
    return processes.find(supervisord) if supervisord else None


def _begin_servers(stack: Stack) -> None:
    """Those that waited for their databases, both at once."""
    from deployments.stack.postgres import create_databases

    create_databases(stack)
    for name in ("prefect", "mlflow"):
        if _state(stack.home, name)["statename"] == "STOPPED":
            supervisor(stack.home).startProcess(name, False)


def _end_flow_runs(worker: Process | None, tell: Tell) -> None:
    """While the server still listens, so that it hears of each run that it crashed.

    Such a run goes on where it was after `up` and Retry; one that is killed later stays 'Running'.
    """
    parent = processes.find(worker) if worker else None
    if runs := parent.children() if parent else []:
        tell(f"Ending {len(runs)} flow run{'s' if len(runs) > 1 else ''}; Retry in Prefect resumes")
        processes.end(runs, seconds=20)
        time.sleep(2)  # the worker tells the server how its processes ended


def _await_service(stack: Stack, name: str, tell: Tell) -> None:
    """Start what does not start by itself, and wait until it answers."""
    begun = time.monotonic()
    state = _state(stack.home, name)
    if state["statename"] in ("STOPPED", "EXITED", "FATAL"):
        supervisor(stack.home).startProcess(name, False)
    while not (_is_ours(stack, name, state) and answers(stack)[name](stack)):
        state = _state(stack.home, name)
        seconds = time.monotonic() - begun
        if state["statename"] == "FATAL" or seconds > START_SECONDS:
            log = log_path(stack.home, name)
            raise StackError(
                f"{name} does not start: {state['spawnerr'] or state['description']}. "
                f"The end of {log}:\n{last_lines(log)}\n"
                "`fedloom stack down` ends the rest."
            )
        tell(f"{name}: starting, {seconds:.0f} s")
        time.sleep(0.3)
    tell(f"{name}: ready")


def _is_ours(stack: Stack, name: str, state: Any) -> bool:
    """Whether what answers is this stack's: another one may have taken the port just before."""
    port = {
        "prefect": stack.prefect_port,
        "mlflow": stack.mlflow_port,
        "postgres": stack.postgres_port,
        "gateway": stack.gateway_port,
    }.get(name)
    if state["statename"] != "RUNNING" or port is None:
        return bool(state["statename"] == "RUNNING")
    try:
        family = processes.with_descendants([processes.identify(state["pid"])])
    except psutil.NoSuchProcess:
        return False
    return any(listens(process, port) for process in family)


def _state(home: Path, name: str) -> Any:
    try:
        return service_states(home)[name]
    except KeyError:
        raise StackError(
            f"supervisord of {home} does not answer. The end of its log:\n"
            f"{last_lines(log_path(home, 'supervisord'))}\n"
            "`fedloom stack down` ends what is left."
        ) from None


def _service_processes(home: Path) -> dict[str, Process]:
    found: dict[str, Process] = {}
    for name, state in service_states(home).items():
        if state["pid"]:
            try:
                found[name] = processes.identify(state["pid"])
            except psutil.NoSuchProcess:
                continue
    return found


def _refuse_other_ports(stack: Stack, prefect_port: int | None, mlflow_port: int | None) -> None:
    for name, wanted, has in (
        ("Prefect", prefect_port, stack.prefect_port),
        ("MLflow", mlflow_port, stack.mlflow_port),
    ):
        if wanted not in (None, has):
            raise StackError(
                f"The stack of {stack.home} runs already, {name} on port {has}, not {wanted}. "
                "`fedloom stack down` first."
            )


def _refuse_leftovers(earlier: Stack | None) -> None:
    left = processes.with_descendants(list(earlier.processes.values())) if earlier else []
    if earlier and left:
        names = ", ".join(f"{one.pid} ({one.name()})" for one in left)
        raise StackError(
            f"Processes of an earlier stack of {earlier.home} still run without their supervisor: "
            f"{names}. `fedloom stack down` ends them."
        )


def _with_ports(
    home: Path, earlier: Stack | None, prefect: int | None, mlflow: int | None, tell: Tell
) -> Stack:
    """The wanted ports or none; else those of last time, so that old links stay good."""
    chosen: list[int] = []
    for name, wanted, last, usual in (
        ("Prefect", prefect, earlier and earlier.prefect_port, PREFECT_PORT),
        ("MLflow", mlflow, earlier and earlier.mlflow_port, MLFLOW_PORT),
    ):
        if wanted is not None and not is_free(wanted):
            raise StackError(
                f"Port {wanted} for {name} is taken by {describe_holder(wanted)}. "
                "End that, or leave the choice of the port to Fedloom."
            )
        first = wanted or last or usual
        port = wanted or choose_port(first, taken=frozenset(chosen))
        if port != first:
            tell(f"{name} uses port {port}: {first} is taken by {describe_holder(first)}")
        chosen.append(port)
    return Stack(home, *chosen)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One `up` or `down` per home at a time."""
    with (home / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"Another `fedloom stack` command works on {home} right now. Wait for it."
            ) from None
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield
