"""Runs configurations as ``fedloom run --in-process`` does and keeps what a table needs."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedcore.config import RunConfig, load_config
from fedcore.engines.engine import ClientEngine
from fedcore.engines.in_process import InProcessEngine
from fedcore.engines.pooled import PooledEngine
from fedcore.events import EventType, Fact
from fedcore.privacy.accounting import Epsilon
from fedcore.privacy.owner import Owner
from fedcore.privacy.spending import spending
from fedcore.run import run_federated
from fedcore.store import Store
from fedcore.training.pool import WorkerPool
from tasks.home import data_folder

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
REPORTS = Path(__file__).resolve().parent / "reports"


@dataclass(frozen=True)
class Measured:
    """One finished run.

    Attributes:
      name: of the configuration.
      seed: of the run.
      config: digest of the configuration.
      final: digest of the chosen model.
      round: the chosen model's.
      metrics: split -> ``{"overall": {...}, "clients": {client: {...}}}`` of the chosen model.
      history: round -> split -> overall metrics, evaluated rounds only.
      scores: (n, outputs) on the whole test split in the source's order, or None.
      targets: (n,) of the same samples, or None.
      seconds: of local training, summed over clients and rounds; what the memo answered counts as
        long as it took when it was done.
      epsilon: what the run told of one record, or None without privacy.
      bytes_up: of the largest update that a client sent.
      adapter_errors: round -> relative error of the aggregated product of low-rank adapters, of the
        rounds that trained any.
    """

    name: str
    seed: int
    config: str
    final: str
    round: int
    metrics: Mapping[str, Any]
    history: Mapping[int, Mapping[str, Any]]
    scores: np.ndarray | None
    targets: np.ndarray | None
    seconds: float
    epsilon: Epsilon | None = None
    bytes_up: int = 0
    adapter_errors: Mapping[int, float] = field(default_factory=dict)

    def test(self, metric: str, client: str | None = None) -> float:
        """A test metric, over the whole split or of one client's part."""
        place = self.metrics["test"]
        return float((place["clients"][client] if client else place["overall"])[metric])

    def to_json(self) -> dict[str, Any]:
        """What the report keeps: no arrays."""
        return {
            "name": self.name,
            "seed": self.seed,
            "config": self.config,
            "final": self.final,
            "round": self.round,
            "metrics": self.metrics,
            "seconds": round(self.seconds, 1),
            "bytes_up": self.bytes_up,
            **({"adapter_errors": dict(self.adapter_errors)} if self.adapter_errors else {}),
            **({"epsilon": asdict(self.epsilon)} if self.epsilon else {}),
        }


Run = Callable[[RunConfig], Measured]


def config_of(name: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The shipped configuration ``configs/FLOW/NAME.yaml`` with overrides."""
    (file,) = CONFIGS.glob(f"*/{name}.yaml")
    return load_config(file, overrides)


def seeded(
    run: Run, name: str, seeds: Sequence[int], overrides: Mapping[str, Any] | None = None
) -> list[Measured]:
    """The same configuration with each seed."""
    return [run(config_of(name, {**(overrides or {}), "seed": seed})) for seed in seeds]


@contextmanager
def runner(store: Path, workers: int) -> Iterator[Run]:
    """A function that runs a configuration over a store that remembers finished client work.

    Args:
      store: folder; the memo in it makes a second run of the same script train nothing.
      workers: processes; 0 trains in this one. Changes nothing but the time.
    """
    blobs = Store(store / "store")
    cache, owner = store / "cache", Owner(store / "privacy")
    if workers == 0:
        yield _run_with(blobs, InProcessEngine(blobs, cache, owner), owner)
        return
    with WorkerPool(workers) as pool:
        yield _run_with(blobs, PooledEngine(blobs.url, cache, pool, owner), owner)


def _run_with(store: Store, engine: ClientEngine, owner: Owner) -> Run:
    def run(config: RunConfig) -> Measured:
        seconds = []

        def listen(fact: Fact) -> None:
            if fact.type is EventType.CLIENT_TRAIN_COMPLETED:
                seconds.append((fact.latency_ms or 0.0) / 1000)

        _, result = run_federated(
            config,
            store=store,
            engine=engine,
            run_id=f"benchmark-{secrets.token_hex(8)}",
            data_folder=data_folder(),
            emit=listen,
            owner=owner,
        )
        kept = store.get_arrays(result.scores) if result.scores else {}
        told = spending(config, [record.to_json() for record in result.records])
        return Measured(
            name=config.name,
            seed=config.seed,
            config=config.digest,
            final=result.final_digest,
            round=result.chosen.round,
            metrics=result.evaluation,
            history={
                record.round: {split: at["overall"] for split, at in record.metrics.items()}
                for record in result.records
                if record.metrics
            },
            scores=kept.get("scores"),
            targets=kept.get("targets"),
            seconds=sum(seconds),
            epsilon=told.overall if told else None,
            bytes_up=max(
                row.get("bytes_up", 0)
                for record in result.records
                for row in record.outcomes.values()
            ),
            adapter_errors={
                record.round: record.adapters["error"]
                for record in result.records
                if record.adapters
            },
        )

    return run


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--store",
        type=Path,
        default=ROOT / ".fedloom" / "benchmarks",
        help="folder of blobs and memo; keep it and a second run trains nothing",
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="worker processes; 0: train in this one"
    )
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the report is written")
    return parser
