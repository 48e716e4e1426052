"""Rounds until a CNN reaches 99 % on MNIST, against table 2 of McMahan et al. 2017.

100 clients IID, 10 a round, batch 10; 34 rounds with 1 local epoch and 20 with 5.
https://arxiv.org/abs/1602.05629

    python -m benchmarks.mnist_rounds [--epochs 1 5]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Measured, Run, arguments, config_of, runner
from benchmarks.report import write_report
from fedcore.report.tables import markdown_table

TARGET = 0.99
PAPER = {1: 34, 5: 20}
CONFIGS = {1: "mnist", 5: "mnist-5-epochs"}
RATES = (0.05, 0.1, 0.2)
FACTOR = 1.3


def rounds_to(history: Mapping[int, Mapping[str, Any]], target: float = TARGET) -> int | None:
    """The first round whose test accuracy is at least ``target``, or None.

    >>> rounds_to({1: {"test": {"accuracy": 0.9}}, 2: {"test": {"accuracy": 0.991}}})
    2
    """
    reached = [r for r, at in sorted(history.items()) if at["test"]["accuracy"] >= target]
    return reached[0] if reached else None


def until_target(run: Run, name: str, rate: float, limit: int, stride: int = 4) -> Measured:
    """Extends a run by ``stride`` rounds until it gets there; earlier rounds come from the memo."""
    changes = {"training.learning_rate": rate, "rounds.keep_updates": "all"}
    for count in [*range(stride, limit, stride), limit]:
        measured = run(config_of(name, changes | {"rounds.count": count}))
        best = max(at["test"]["accuracy"] for at in measured.history.values())
        print(f"{name} lr {rate} round {count}: best {best:.4f}", flush=True)
        if rounds_to(measured.history):
            break
    return measured


def main() -> None:
    """Runs the grid and writes ``reports/mnist-rounds.md``; an earlier report's rows are kept."""
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, nargs="+", choices=sorted(PAPER), default=[1, 5])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    options = parser.parse_args()
    with runner(options.store, options.workers) as run:
        for epochs in options.epochs:
            for rate in options.rates:
                limit = int(FACTOR * PAPER[epochs])
                measured = until_target(run, CONFIGS[epochs], rate, limit)
                report(options.reports, epochs, rate, measured)


def report(reports: Path, epochs: int, rate: float, measured: Measured) -> None:
    """Adds one line to the report."""
    path = reports / "mnist-rounds.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    kept = [one for one in kept if (one["epochs"], one["learning_rate"]) != (epochs, rate)]
    kept.append(
        {
            "epochs": epochs,
            "learning_rate": rate,
            "rounds": rounds_to(measured.history),
            "history": {r: at["test"]["accuracy"] for r, at in measured.history.items()},
            **measured.to_json(),
        }
    )
    kept.sort(key=lambda one: (one["epochs"], one["learning_rate"]))
    body = [
        "`configs/train_federated/mnist.yaml` and `mnist-5-epochs.yaml`: 100 clients IID, 10 of "
        "them a round (fixed-size cohorts), batch 10, the CNN of 1,663,370 parameters, SGD, all "
        f"60,000 images in training; seed {measured.seed}. The first round with at least 99 % on "
        "the 10,000 test images; the paper reports the best of its grid of learning rates.",
        markdown_table(
            ["local epochs", "learning rate", "rounds to 99 %", "paper", "ratio", "best accuracy"],
            [_row(one) for one in kept],
        ),
        *_verdicts(kept),
    ]
    write_report(reports, "mnist-rounds", "MNIST: rounds to 99 %", body, {"runs": kept})


def _row(one: Mapping[str, Any]) -> list[Any]:
    rounds, paper = one["rounds"], PAPER[one["epochs"]]
    seen = len(one["history"])
    return [
        one["epochs"],
        f"{one['learning_rate']:g}",
        rounds if rounds else f"not in {seen}",
        paper,
        f"{rounds / paper:.2f}" if rounds else None,
        f"{max(one['history'].values()):.4f}",
    ]


def _verdicts(kept: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for epochs, paper in PAPER.items():
        found = [one["rounds"] for one in kept if one["epochs"] == epochs and one["rounds"]]
        if found:
            ratio = min(found) / paper
            inside = "within" if ratio <= FACTOR else "not within"
            lines.append(
                f"{epochs} local epoch{'s' if epochs > 1 else ''}: best of the grid {min(found)} "
                f"rounds, {ratio:.2f} times the paper's {paper}, {inside} {FACTOR} times."
            )
    return lines


if __name__ == "__main__":
    main()
