"""What DP-SGD costs: steps of the same backend with and without it, in turn.

python -m benchmarks.dp_cost --reports benchmarks/reports --repeats 9
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.operations import table
from benchmarks.report import write_report
from fedcore.models.build import build_model
from fedcore.models.preprocess import TablePreprocess, preprocess_for
from fedcore.models.settings import (
    DeitTinyRandomSettings,
    GroupNormCnnSettings,
    LogisticSettings,
    McMahanCnnSettings,
    ModelSettings,
    TanhCnnSettings,
)
from fedcore.models.state import count_parameters
from fedcore.task import Task, TaskKind
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.settings import LoopSettings, TrainerSettings, TrainingSettings
from fedcore.training.train import train

TEN = Task(TaskKind.MULTICLASS, tuple("0123456789"))
EXAMPLES = 2000
GREY = {"kind": "image", "shape": [28, 28, 1]}


@dataclass(frozen=True)
class Case:
    """One model and backend.

    Attributes:
      most: how many times as long DP-SGD may take; None: not asked.
      width: columns of a table of features, or None: images of 28 x 28.
    """

    name: str
    model: ModelSettings
    most: float | None
    batch_size: int
    steps: int
    width: int | None = None
    micro_batch: int = 64
    is_trainer: bool = False


CASES = (
    Case("CNN (GroupNorm)", GroupNormCnnSettings(), 3, 64, 4),
    Case("CNN (GroupNorm)", GroupNormCnnSettings(), 3, 256, 2),
    Case("CNN (McMahan)", McMahanCnnSettings(), 3, 64, 4),
    Case("CNN (McMahan)", McMahanCnnSettings(), 3, 256, 2),
    Case("CNN (tanh)", TanhCnnSettings(), 3, 256, 2),
    Case("linear head, 192 features", LogisticSettings(), 2, 64, 100, 192, 512),
    Case("linear head, 192 features", LogisticSettings(), 2, 256, 60, 192, 512),
    Case("linear head, 3969 features", LogisticSettings(), 2, 256, 20, 3969, 512),
    Case("linear head, 192 features", LogisticSettings(), None, 64, 50, 192, 512, True),
    Case("LoRA and head, transformer", DeitTinyRandomSettings(mode="adapters"), 4, 64, 4),
    Case("LoRA and head, transformer", DeitTinyRandomSettings(mode="adapters"), 4, 256, 2),
)


def main() -> None:
    """Measures and writes ``dp-cost.md`` and ``dp-cost.json``."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--repeats", type=int, default=9, help="of each case, with and without")
    words.add_argument("--reports", type=Path, default=Path("benchmarks/reports"))
    args = words.parse_args()
    rows = [row(case, *seconds(case, args.repeats)) for case in CASES]
    body = [
        f"Seconds of CPU of one client's training, with and without DP-SGD in turn, {args.repeats} "
        "times; medians. The same number of steps and the same expected batch: fixed batches "
        "without, Poisson batches with it. Noise and coins included, invented data.",
        table(rows),
    ]
    write_report(args.reports, "dp-cost", "What DP-SGD costs", body, {"rows": rows})


def row(case: Case, plain: list[float], private: list[float]) -> dict[str, Any]:
    """A row of the report."""
    model = build_model(case.model, TEN, shape(case), seed=0)
    return {
        "model": case.name,
        "backend": "Trainer" if case.is_trainer else "loop",
        "parameters": count_parameters(model).trainable,
        "batch": case.batch_size,
        "without, ms a step": round(1000 * median(plain) / case.steps, 2),
        "with, ms a step": round(1000 * median(private) / case.steps, 2),
        "times": round(median(private) / median(plain), 2),
        "asked": "" if case.most is None else f"at most {case.most:g}",
    }


def shape(case: Case) -> tuple[int, ...]:
    """Of one preprocessed input."""
    if case.width is not None:
        return (case.width,)
    return preprocess_for(case.model, GREY).output_shape((28, 28, 1))


def seconds(case: Case, repeats: int) -> tuple[list[float], list[float]]:
    """CPU seconds without and with DP-SGD, after one of each that is not counted."""
    work = worker(case)
    noise = ExampleNoise(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sampling_rate=case.batch_size / EXAMPLES,
        steps=case.steps,
        micro_batch=case.micro_batch,
    )
    pairs = [(work(None), work(noise)) for _ in range(repeats + 1)][1:]
    return [plain for plain, _ in pairs], [private for _, private in pairs]


def worker(case: Case) -> Callable[[ExampleNoise | None], float]:
    """A function that trains once and gives the seconds of CPU."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 10, EXAMPLES)
    if case.width is None:
        inputs = rng.integers(0, 256, (EXAMPLES, 28, 28, 1), dtype=np.uint8)
        preprocess = preprocess_for(case.model, GREY)
    else:
        inputs = rng.normal(size=(EXAMPLES, case.width)).astype(np.float32)
        preprocess = TablePreprocess()
    common = {"batch_size": case.batch_size, "steps": case.steps, "max_grad_norm": None}
    settings: TrainingSettings = LoopSettings(**common)
    if case.is_trainer:
        settings = TrainerSettings(accumulation=1, **common)
    model = build_model(case.model, TEN, shape(case), seed=0)

    def work(noise):
        before = time.process_time()
        train(
            model,
            inputs,
            targets,
            task=TEN,
            preprocess=preprocess,
            settings=settings,
            learning_rate=0.001,
            seed=0,
            private=noise,
            key=bytes(32),
        )
        return time.process_time() - before

    return work


if __name__ == "__main__":
    main()
