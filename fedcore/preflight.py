"""Whether a run fits this machine, before it trains: disk, memory, time. Never part of a result."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.state import count_parameters, estimate_memory, example_input
from fedcore.plan import RunPlan
from fedcore.report.words import duration, size
from fedcore.timing import Timing

# Beside the chain of a run, outside parity.
NOTE = "preflight"
# What a process holds before any model: Python, torch, transformers (measured, CPU builds).
WORKER_BYTES = 350_000_000
RUN_BYTES = 450_000_000
# A worker keeps this many shards, because cohorts return (fedcore.execute).
KEPT_SHARDS = 32
# A finished job's note, a round's record and their rows in databases.
JOB_BYTES = 20_000
# A task's way through Prefect and a job's through the store; what a round costs besides.
JOB_SECONDS = 0.1
ROUND_SECONDS = 1.0
# Less left over than this is worth a warning.
NARROW = 0.2


class PreflightFailed(RuntimeError):
    """The run does not fit this machine; the message has the numbers and what to lower."""


@dataclass(frozen=True)
class Room:
    """What this machine has left, in bytes, and its cores."""

    disk: int
    memory: int
    cores: int


@dataclass(frozen=True)
class Preflight:
    """What a run needs and what there is.

    Attributes:
      rounds: that are left.
      disk, memory: bytes it will need at most.
      free_disk, free_memory: bytes there are.
      seconds: that it will take, about.
      seconds_a_round: of those, in each round.
      problems: why it cannot run, with the way out.
      warnings: what may go wrong.
    """

    rounds: int
    disk: int
    memory: int
    free_disk: int
    free_memory: int
    seconds: float
    seconds_a_round: float
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return {**asdict(self), "problems": list(self.problems), "warnings": list(self.warnings)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Preflight:
        """What ``to_json`` described."""
        names = Preflight.__dataclass_fields__
        lists = {name: tuple(value[name]) for name in ("problems", "warnings")}
        return Preflight(**{name: value[name] for name in names} | lists)

    def facts(self) -> dict[str, str]:
        """In words, for the plan that the operator reads."""
        return {
            "disk": f"about {size(self.disk)} of {size(self.free_disk)} free",
            "memory": f"about {size(self.memory)} of {size(self.free_memory)} free",
            "time": f"about {duration(self.seconds)}, {duration(self.seconds_a_round)} a round",
        }


def check(
    plan: RunPlan, room: Room, timing: Timing, *, done: int = 0, workers: int | None = None
) -> Preflight:
    """What the rounds that are left need, against what there is.

    Args:
      plan: of the run.
      room: see :func:`look_around`.
      timing: see :func:`fedcore.timing.time_batch`.
      done: rounds that are committed.
      workers: processes; by default ``speed.workers``, which the header of a run does not keep.
    """
    workers = plan.config.speed.workers if workers is None else workers
    rounds = max(0, plan.config.rounds.count - done)
    disk, memory = disk_need(plan, rounds), memory_need(plan, workers)
    a_round, once = time_need(plan, timing, max(1, min(workers, room.cores)))
    found = Preflight(
        rounds=rounds,
        disk=disk,
        memory=memory,
        free_disk=room.disk,
        free_memory=room.memory,
        seconds=round(rounds * a_round + once, 1),
        seconds_a_round=round(a_round, 2),
    )
    problems, warnings = _judge(plan, found, workers, room)
    return Preflight(**{**asdict(found), "problems": problems, "warnings": warnings})


def require_room(found: Preflight) -> Preflight:
    """The same; raises PreflightFailed when there is a problem."""
    if found.problems:
        raise PreflightFailed(" ".join(found.problems))
    return found


def look_around(folder: Path) -> Room:
    """What there is where ``folder`` lies; a container's bound on memory counts."""
    import shutil

    import psutil  # type: ignore[import-untyped]

    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    memory = int(psutil.virtual_memory().available)
    if (bound := _container_memory()) is not None:
        memory = min(memory, bound)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Room(shutil.disk_usage(there).free, memory, cores or 1)


def expected_cohort(plan: RunPlan) -> float:
    """Clients that a round asks, on average."""
    asked = len(plan.federation.ids) - len(plan.config.rounds.exclude_clients)
    return plan.config.participation.expected(asked)


def disk_need(plan: RunPlan, rounds: int) -> int:
    """Bytes that the rounds write: models and server states, updates that are kept, notes."""
    model = plan.initial.params.size
    state = plan.initial.state.size if plan.initial.state else 0
    cohort = math.ceil(expected_cohort(plan))
    kept_rounds = {"all": rounds, "last": min(rounds, 2), "none": min(rounds, 1)}
    updates = kept_rounds[plan.config.rounds.keep_updates] * cohort * model
    features = 0
    if (width := _feature_width(plan)) is not None:
        samples = sum(sum(held.sizes.values()) for held in plan.federation.clients.values())
        features = 4 * width * (samples + sum(plan.federation.central_sizes.values()))
    version = 2 * model  # MLflow's own copy, and the one on its way there
    return rounds * (model + state + cohort * JOB_BYTES) + updates + features + version


def memory_need(plan: RunPlan, workers: int) -> int:
    """Bytes of the run's process and its workers together."""
    config = plan.config
    model = build_model(config.model, plan.task, plan.input_shape, config.seed)
    step = estimate_memory(model, plan.input_shape, config.training.batch_size, moments(config))
    trained = count_parameters(model).trainable
    shards = sorted(
        (ref.size for held in plan.federation.clients.values() for ref in held.blobs.values()),
        reverse=True,
    )
    central = max((ref.size for ref in plan.federation.central.values()), default=0)
    worker = WORKER_BYTES + step.total + sum(shards[:KEPT_SHARDS]) + central
    # The mean of updates is added up in float64, twice.
    run = RUN_BYTES + 16 * trained
    return run + (workers * worker if workers else worker - WORKER_BYTES)


def moments(config: Any) -> int:
    """Values that the optimizer keeps per trained parameter."""
    if getattr(config.training, "optimizer", "adamw") == "sgd":
        return int(bool(getattr(config.training, "momentum", 0)))
    return 2


def time_need(plan: RunPlan, timing: Timing, at_once: int) -> tuple[float, float]:
    """Seconds of a round and seconds once, for that many workers at once."""
    config, clients = plan.config, plan.federation.clients
    sizes = [held.sizes["train"] for held in clients.values()]
    steps = [
        config.training.steps
        or (config.training.epochs or 1) * math.ceil(size / config.training.batch_size)
        for size in sizes
    ]
    cohort = expected_cohort(plan)
    training = cohort * (JOB_SECONDS + timing.call + timing.step * sum(steps) / len(steps))
    measured = sum(plan.federation.central_sizes.get(s, 0) for s in config.evaluation.splits)
    if config.evaluation.clients:
        measured += sum(
            held.sizes.get(split, 0)
            for held in clients.values()
            for split in config.evaluation.splits
        )
    evaluation = measured * timing.predict / config.evaluation.every
    once = sum(sizes) * timing.features + measured * timing.features
    return (training + evaluation) / at_once + ROUND_SECONDS, once / at_once


def _judge(
    plan: RunPlan, found: Preflight, workers: int, room: Room
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    problems, warnings = [], []
    keeps = plan.config.rounds.keep_updates
    lower_disk = (
        f"set rounds.keep_updates (now {keeps}) to none, lower rounds.count={found.rounds}, run "
        "`fedloom store gc`, or take a FEDLOOM_HOME on a larger disk"
    )
    lower_memory = (
        f"lower speed.workers={workers} or training.batch_size={plan.config.training.batch_size}, "
        "or take a smaller model"
    )
    for what, need, free, lower in (
        ("disk space", found.disk, found.free_disk, lower_disk),
        ("memory", found.memory, found.free_memory, lower_memory),
    ):
        said = f"{found.rounds} rounds need about {size(need)} of {what}; {size(free)} are free"
        if need > free:
            problems.append(f"{said}. Way out: {lower}.")
        elif need > (1 - NARROW) * free:
            warnings.append(f"{said}: it may not be enough. To be safe: {lower}.")
    if workers > room.cores:
        warnings.append(
            f"speed.workers={workers} is more than the {room.cores} cores of this machine; "
            "more of them than cores make no round faster."
        )
    return tuple(problems), tuple(warnings)


def _feature_width(plan: RunPlan) -> int | None:
    """Of the features that a frozen backbone leaves on the disk; None without one."""
    config = plan.config
    if config.training.augmentation.kind != "none":
        return None
    model = build_model(config.model, plan.task, plan.input_shape, config.seed)
    cut = on_frozen_backbone(model)
    if cut is None:
        return None
    import torch

    with torch.no_grad():
        one = cut.backbone(example_input(model, plan.input_shape))[0]
    is_text = one.dim() > len(plan.input_shape)  # at the most as long as it may be
    return plan.input_shape[0] * one.shape[-1] if is_text else one.numel()


def _container_memory() -> int | None:
    """What a control group leaves (Linux, version 2), or None."""
    try:
        group = Path("/sys/fs/cgroup")
        bound = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if bound == "max" else max(0, int(bound) - used)
