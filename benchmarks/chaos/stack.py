"""Kills of real processes of a real stack while a run of a deployment is under way.

What is killed: the client-task process, the flow's process, the worker, Prefect's server, MLflow's
server, or everything at once (a power cut). When: as soon as the run's events tell that a stage has
begun, after a drawn fraction of a second. Then the operator's part, and no more: one Retry when the
run ended as Failed or Crashed.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.control import Control
from deployments.stack.lifecycle import bring_up
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import Stack, environment, read_stack
from fedcore.chain import Chain
from fedcore.config import RunConfig, make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.event_log import EventLog, EventLogUnavailable
from fedcore.events import Event, EventType
from fedcore.run import run_federated
from fedcore.store import Store

TARGETS = ("client", "flow", "worker", "prefect", "mlflow", "everything")
SERVICES = {"worker", "prefect", "mlflow", "postgres"}
CONFIG = {
    "name": "custom",
    "data": {"kind": "digits"},
    "partition": {"kind": "dirichlet", "clients": 4},
    "audit": {"remedy": "drop-from-train"},
    "training": {"kind": "loop", "batch_size": 4, "epochs": 15, "learning_rate": 0.05},
    "rounds": {"count": 4},
    "speed": {"workers": 1},
}
SECONDS_TO_END = 600.0
ENDED = {"Completed", "Failed", "Crashed"}


def _stage(name: str) -> Callable[[Event], bool]:
    return lambda event: event.type is EventType.NODE_HEARTBEAT and event.status == name


def _first(kind: EventType, round: int) -> Callable[[Event], bool]:
    return lambda event: event.type is kind and event.round >= round


# stage -> whether an event says that it has begun; in the order of a run
STAGES: dict[str, Callable[[Event], bool]] = {
    "audit": _stage("audit"),
    "partition": _stage("partition"),
    "client task": _first(EventType.CLIENT_TRAIN_STARTED, 1),
    "aggregation": _first(EventType.AGGREGATION_STARTED, 2),
    "evaluation": _first(EventType.AGGREGATION_COMPLETED, 3),
    "commit": _first(EventType.ROUND_COMPLETED, 3),
    "registration": _stage("registration"),
}


# What a process that takes a run over tells when it is behind what was finished before.
NEW_WORK = {
    EventType.CLIENT_TRAIN_STARTED,
    EventType.AGGREGATION_STARTED,
    EventType.ROUND_COMPLETED,
    EventType.RUN_STOPPED,
}
# These stages need no training process: there is none to kill.
WITHOUT_CLIENTS = {"audit", "partition"}


@dataclass
class Kill:
    """One kill.

    Attributes:
      stage, target: when and what.
      processes: so many were killed; 0 when the run had none of the kind any more.
      by_itself: the run went on without anybody's Retry.
      seconds: from the restart (of the stack, by the Retry, or the kill itself where the run went
        on by itself) to the first new task of the run; None when nothing had to start again.
    """

    stage: str
    target: str
    processes: int = 0
    by_itself: bool = True
    seconds: float | None = None


@dataclass
class StackTrial:
    """One run of a deployment under kills; attributes as :class:`benchmarks.chaos.core.CoreTrial`.

    Attributes:
      database: of the stack.
      versions: model versions that the run left.
    """

    seed: int
    database: str = "sqlite"
    kills: list[Kill] = field(default_factory=list)
    state: str = ""
    digest: str = ""
    expected: str = ""
    rounds: tuple[int, int] = (0, 0)
    trained: dict[str, int] = field(default_factory=dict)
    versions: int = 0

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty when nothing did."""
        return [
            *([f"the run is {self.state}"] if self.state != "Completed" else []),
            *(["another final digest"] if self.digest != self.expected else []),
            *([f"{self.versions} model versions"] if self.versions != 1 else []),
            *(f"{job} was finished twice" for job, count in self.trained.items() if count > 1),
        ]


def log_of(stack: Stack) -> EventLog:
    """The stack's event log, whatever this process's environment says."""
    return EventLog(
        environment(stack).get("FEDLOOM_EVENTS") or f"sqlite:///{stack.home / 'events.db'}"
    )


@dataclass(frozen=True)
class PatientLog:
    """The event log, asked again while PostgreSQL is away: the trial kills it too."""

    log: EventLog

    def history(self, run_id: str, **chosen: Any) -> list[Event]:
        """As the log's own."""
        while True:
            try:
                return self.log.history(run_id, **chosen)
            except EventLogUnavailable:
                time.sleep(0.5)

    def follow(self, run_id: str, after: str, **how: Any) -> Iterator[Event]:
        """As the log's own."""
        while True:
            try:
                for event in self.log.follow(run_id, after=after, **how):
                    after = event.event_id
                    yield event
                return
            except EventLogUnavailable:
                time.sleep(0.5)


def stack_trial(stack: Stack, seed: int, plan: list[tuple[str, str]]) -> StackTrial:
    """One run, killed as planned.

    Args:
      stack: which is up, with its deployments registered.
      seed: of the run and of the moments within stages.
      plan: (stage, target), in the order of ``STAGES``.
    """
    draw = random.Random(seed)
    config = make_config({**CONFIG, "seed": seed})
    trial = StackTrial(seed, stack.database, expected=undisturbed(config))
    control = Control(stack)
    run_id = control.start("train-federated/custom", config.model_dump(mode="json"))
    log = PatientLog(log_of(stack))
    seen = ""
    for stage, target in plan:
        seen = _await(trial, stack, log, run_id, seen, STAGES[stage], control)
        if not seen:
            break
        time.sleep(draw.random() * 0.4)
        trial.kills.append(_kill_and_recover(stack, control, log, run_id, stage, target))
    trial.state = _to_the_end(stack, control, run_id)
    _judge(trial, stack, control, log, run_id, config)
    return trial


def undisturbed(config: RunConfig) -> str:
    """The final digest of the same run in this process, alone."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        engine = InProcessEngine(store, Path(folder) / "cache")
        return run_federated(config, store=store, engine=engine, run_id="alone")[1].final_digest


def _await(
    trial: StackTrial,
    stack: Stack,
    log: PatientLog,
    run_id: str,
    after: str,
    begun: Callable[[Event], bool],
    control: Control,
) -> str:
    """Id of the first event behind ``after`` that tells it; empty when the run ended before."""
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        for event in log.follow(
            run_id,
            after=after,
            poll_seconds=0.05,
            is_over=lambda: time.monotonic() > deadline or control.state(run_id) in ENDED,
        ):
            after = event.event_id
            if begun(event):
                return after
        if control.state(run_id) == "Completed" or not trial.kills or not trial.kills[-1].by_itself:
            return ""
        if _wants_a_retry(stack, control, run_id):
            # It had gone on after the last kill and then ended of it.
            trial.kills[-1].by_itself = False
            control.retry(run_id)
    return ""


def _wants_a_retry(stack: Stack, control: Control, run_id: str) -> bool:
    """Whether a person who looks twice would press Retry: the run has ended, and nobody works.

    Prefect 3.8.8 reports the end of a killed process twice, the second time some seconds later,
    when a Retry may be at work already: its page says Crashed then, for a while.
    """
    for _ in range(2):
        time.sleep(0.5)
        if control.state(run_id) not in {"Failed", "Crashed"}:
            return False
        if processes_of_runs(stack.home).get(run_id):
            return False
    return True


def _kill_and_recover(
    stack: Stack, control: Control, log: PatientLog, run_id: str, stage: str, target: str
) -> Kill:
    history = log.history(run_id)
    last = history[-1].event_id if history else ""
    victims = list(_victims(stack, run_id, target))
    kill, killed = Kill(stage, target, len(victims)), time.monotonic()
    if not victims:
        return kill
    for process in victims:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(victims, timeout=10)
    restarts_run = target in {"flow", "worker", "everything"}
    if target == "everything":
        bring_up(stack.home, tell=lambda line: None)
        killed = time.monotonic()  # the issue counts from the restart
    while not _has_new_work(log, run_id, last, restarts_run):
        state = control.state(run_id)
        if state in {"Failed", "Crashed"} and _wants_a_retry(stack, control, run_id):
            kill.by_itself = False
            control.retry(run_id)
            killed = time.monotonic() if target != "everything" else killed
        if state == "Completed" or time.monotonic() - killed > SECONDS_TO_END:
            return kill
        time.sleep(0.2)
    kill.seconds = round(time.monotonic() - killed, 1) if restarts_run else None
    return kill


def _has_new_work(log: PatientLog, run_id: str, after: str, restarts_run: bool) -> bool:
    """Whether the run goes on: by a task of its new process, or by any event where it has no new
    one."""
    events = log.history(run_id, after=after)
    if not restarts_run:
        return bool(events)
    began = {EventType.RUN_RESUMED, EventType.RUN_REQUESTED}
    start = next((n for n, event in enumerate(events) if event.type in began), len(events))
    return any(event.type in NEW_WORK or _stage("registration")(event) for event in events[start:])


def _victims(stack: Stack, run_id: str, target: str) -> Iterator[psutil.Process]:
    from deployments.stack.supervision import service_states

    family = processes_of_runs(stack.home).get(run_id, [])
    states = service_states(stack.home)
    if target == "client":
        yield from (one for one in family if "fedcore.training.worker" in one.cmdline())
    elif target == "flow":
        yield from (one for one in family if "prefect.engine" in one.cmdline())
    elif target in SERVICES:
        if pid := states[target]["pid"]:  # else it is just being started
            yield psutil.Process(pid)
    else:  # the supervisor first, so that it starts nothing again
        now = read_stack(stack.home) or stack  # a power cut before this one left another
        keeper = psutil.Process(now.processes["supervisord"].pid)
        yield keeper
        yield from keeper.children(recursive=True)
        yield from family


def _to_the_end(stack: Stack, control: Control, run_id: str) -> str:
    deadline = time.monotonic() + SECONDS_TO_END
    state = control.state(run_id)
    while state != "Completed" and time.monotonic() < deadline:
        if state in {"Failed", "Crashed"} and _wants_a_retry(stack, control, run_id):
            control.retry(run_id)
        time.sleep(0.3)
        state = control.state(run_id)
    return state


def _judge(
    trial: StackTrial,
    stack: Stack,
    control: Control,
    log: PatientLog,
    run_id: str,
    config: RunConfig,
) -> None:
    chain = Chain(Store(stack.home / "store"), run_id)
    trial.rounds = (len(list(chain.records())), config.rounds.count)
    finished: Counter[str] = Counter(
        f"round {event.round} of {event.node_id}"
        for event in log.history(run_id, types=[EventType.CLIENT_TRAIN_COMPLETED])
        if event.status == "done"
    )
    trial.trained = dict(finished)
    trial.digest, trial.versions = control.outcome(run_id)


def as_json(trial: StackTrial) -> dict[str, Any]:
    """For the report."""
    return {
        **{key: value for key, value in vars(trial).items() if key not in ("kills", "trained")},
        "kills": [vars(kill) for kill in trial.kills],
        "problems": trial.problems,
    }
