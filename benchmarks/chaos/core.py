"""Kills at named points of fedcore: a process that ends itself by SIGKILL there, then another one.

Each process runs ``run_federated`` on the same chain and goes on where the one before was killed.
Functions are wrapped from outside; nothing in the product knows of it.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcore.config import RunConfig, make_config
from fedcore.store import Store

# stage -> (module, function or Class.method, whether the kill comes after it)
POINTS: dict[str, tuple[str, str, bool]] = {
    "audit, before": ("fedcore.run", "audit", False),
    "audit, after": ("fedcore.run", "audit", True),
    "partition, after": ("fedcore.run", "make_partition", True),
    "header, before": ("fedcore.chain", "Chain.begin", False),
    "header, after": ("fedcore.chain", "Chain.begin", True),
    "client task, before": ("fedcore.execute", "train", False),
    "client task, trained": ("fedcore.execute", "train", True),
    "client task, remembered": ("fedcore.memo", "remember", True),
    "aggregation, before": ("fedcore.rounds", "aggregate_round", False),
    "aggregation, after": ("fedcore.rounds", "aggregate_round", True),
    "evaluation, before": ("fedcore.execute", "measure", False),
    "commit, before": ("fedcore.chain", "Chain.append", False),
    "commit, inside": ("os", "link", False),
    "commit, after": ("fedcore.chain", "Chain.append", True),
    "choice, after": ("fedcore.run", "choose_round", True),
}
CONFIG = {
    "name": "chaos",
    "data": {"kind": "breast_cancer"},
    "partition": {"kind": "iid", "clients": 3},
    "audit": {"remedy": "accept"},
    "model": {"kind": "logistic"},
    "rounds": {"count": 3},
    "evaluation": {"choose": "loss", "clients": False},
}
MOST_STARTS = 30
IMPORTS = (
    *("torch", "sklearn.datasets", "sklearn.metrics", "sklearn.model_selection", "pandas"),
    *("pyarrow.parquet", "matplotlib.pyplot", "scipy.stats", "imagehash"),
    *("fedcore.run", "fedcore.execute", "fedcore.engines.in_process", "torch.optim"),
)


@dataclass
class CoreTrial:
    """One run under kills.

    Attributes:
      seed: of the run and of the kills.
      kills: the points where a process was killed, in order.
      digest: final digest of the run.
      expected: final digest of the same run undisturbed.
      rounds: committed rounds, of how many that were scheduled.
      trained: job key -> how often a training was finished and remembered.
      wanted: job keys of the chain's outcomes.
    """

    seed: int
    kills: list[str] = field(default_factory=list)
    digest: str = ""
    expected: str = ""
    rounds: tuple[int, int] = (0, 0)
    trained: dict[str, int] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty when nothing did."""
        twice = [key for key, count in self.trained.items() if count > 1]
        lost = [key for key in self.wanted if key not in self.trained]
        return [
            *(["another final digest"] if self.digest != self.expected else []),
            *(f"job {key[:12]} was finished twice" for key in twice),
            *(f"job {key[:12]} is in the chain, but nobody finished it" for key in lost),
        ]


def core_trial(seed: int, kills: int, folder: Path) -> CoreTrial:
    """A run that is killed up to ``kills`` times at drawn points, beside an undisturbed one.

    Args:
      seed: draws the run and the kills.
      kills: how many at most; a point that is no longer passed kills nothing.
      folder: an empty folder.

    Raises:
      RuntimeError: a process failed otherwise than by its kill.
    """
    preload()
    draw = random.Random(seed)
    config = make_config({**CONFIG, "seed": seed})
    calls = _run(config, folder / "alone", {})
    trial = CoreTrial(seed, expected=calls["digest"])
    for _ in range(MOST_STARTS):
        point = draw.choice(sorted(POINTS)) if len(trial.kills) < kills else ""
        nth = draw.randint(1, min(2, calls["passed"].get(point, 1)))
        answer = _run(config, folder / "killed", {point: nth} if point else {})
        if answer is None:
            trial.kills.append(f"{point}, {nth}. time")
            continue
        trial.digest, trial.rounds = answer["digest"], (answer["rounds"], config.rounds.count)
        trial.wanted = answer["wanted"]
        trial.trained = dict(Counter((folder / "killed" / "trained").read_text().split()))
        return trial
    raise RuntimeError(f"seed {seed}: the run did not end after {MOST_STARTS} starts.")


def _run(config: RunConfig, folder: Path, kill: dict[str, int]) -> Any:
    """One process on the chain in ``folder``: its answer, or None when it was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / "answer.json"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answer.write_text(json.dumps(_work(config, folder, kill)))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and kill:
        return None
    if status != 0:
        raise RuntimeError(f"a process on {folder.name} ended with wait status {status}.")
    return json.loads(answer.read_text())


def _work(config: RunConfig, folder: Path, kill: dict[str, int]) -> dict[str, Any]:
    from fedcore.engines.in_process import InProcessEngine
    from fedcore.run import run_federated

    store = Store(folder / "store")
    engine = InProcessEngine(store, folder / "cache")
    passed: Counter[str] = Counter()
    _watch(passed, kill, folder / "trained")
    _, result = run_federated(config, store=store, engine=engine, run_id="run")
    wanted = [row["job"] for record in result.records for row in record.outcomes.values()]
    return {
        "digest": result.final_digest,
        "rounds": len(result.records),
        "passed": dict(passed),
        "wanted": wanted,
    }


def _watch(passed: Counter[str], kill: dict[str, int], trained: Path) -> None:
    """From now on count how often each point is passed, note finished trainings, die where asked.

    For the rest of this process's life: it was forked for one run.
    """

    def at(point: str) -> None:
        passed[point] += 1
        if kill.get(point) == passed[point]:
            os.kill(os.getpid(), signal.SIGKILL)

    from fedcore import memo

    remember = memo.remember

    def remembered(store: Store, done: Any) -> None:
        remember(store, done)
        if hasattr(done.result, "delta"):
            with trained.open("a") as file:
                file.write(f"{done.key}\n")

    memo.remember = remembered  # type: ignore[assignment]
    for point, (module, name, is_after) in POINTS.items():
        _wrap(module, name, is_after, point, at)


def _wrap(module: str, name: str, is_after: bool, point: str, at: Callable[[str], None]) -> None:
    owner: Any = importlib.import_module(module)
    *classes, function = name.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, function)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not is_after:
            at(point)
        result = original(*args, **kwargs)
        if is_after:
            at(point)
        return result

    setattr(owner, function, wrapper)


def preload() -> None:
    """Import once what each forked process would import for itself."""
    for module in IMPORTS:
        importlib.import_module(module)
