"""Tables and sentences of the report on Medical Abstracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Measured
from benchmarks.medical_cases import (
    AGAINST_PROBE,
    CASES,
    CENTRAL,
    FEDERATED,
    PRIVATE_CASES,
    PROBE,
    Case,
    Runs,
)
from benchmarks.report import spread
from fedcore.report.tables import markdown_table

LARGEST_UPDATE = 350_000
LONGEST_SECONDS = 480
MOST_MEMORY = 1.3
POINT = 0.01
EXACT = 1e-6


def which_private(runs: Runs) -> str:
    """What the private cases are; empty without them."""
    if not any(name in runs for name in PRIVATE_CASES):
        return ""
    count = max(len(runs.get(name, ())) for name in PRIVATE_CASES)
    return (
        f" Privacy of each record, delta 1e-5: the first {count}, each with its own seed, compared "
        "with the same folds and seeds without it; clients draw noise from their own secrets. 15 "
        "rounds of the head, two of adapters (A frozen) and head, plain SGD at 0.6, gradients "
        "clipped to norm 1; expected batches of 1024 and six steps a round centrally, of 64 and "
        "four steps at clients, settings chosen inside the training rows of fold 0. A client of "
        "fewer rows takes them all in every step, under noise that is larger the fewer they are: "
        "its multiplier is 4.2 with 77 rows, 0.9 with 566. Of the clip norm that is a deviation "
        "of 0.065 and 0.014 in each entry of a client's mean gradient, and 0.0022 and 0.0035 of "
        "the cohort's once clients are weighted by rows: small clients learn from the others "
        "and do not drown them. With 23 rows, fewer than any client here has, it would be 0.215 "
        "and 0.0021: such a client adds next to nothing of its own."
    )


def accuracies(runs: Runs) -> str:
    """A line for each case: its folds, mean, and what was asked."""
    folds = len(runs[FEDERATED])
    rows = [
        _row(name, case, runs) for name, case in (CASES | PRIVATE_CASES).items() if name in runs
    ]
    header = ["", *(f"fold {fold}" for fold in range(folds)), "mean ± deviation"]
    return markdown_table([*header, "compared with", "", "asked", ""], rows)


def _row(name: str, case: Case, runs: Runs) -> list[Any]:
    found = runs[name]
    each = [f"{one.test('accuracy'):.3f}" for one in found]
    row = [name, *each, *[None] * (len(runs[FEDERATED]) - len(each)), spread(_accuracy(found))]
    if not case.twin:
        return [*row, None, None, None, None]
    twin = mean_accuracy(runs[case.twin][: len(found)])
    if case.least is not None:
        part = mean_accuracy(found) / twin
        told, asked, holds = f"{part:.1%} of it", f"at least {case.least:.0%}", part >= case.least
    else:
        lost = twin - mean_accuracy(found)
        told, asked = f"{lost:.3f} lost", f"less than {case.most_lost:g}"
        holds = lost < (case.most_lost or 0.0)
    return [*row, case.twin, told, asked, "reached" if holds else "missed"]


def against_probe(runs: Runs) -> str:
    """Differences from the linear probe on the same folds."""
    rows = []
    for name in (*AGAINST_PROBE, CENTRAL):
        differences = np.subtract(_accuracy(runs[name]), _accuracy(runs[PROBE]))
        mean = float(np.mean(differences))
        asked = None if name == CENTRAL else "reached" if mean >= -POINT else "missed"
        rows.append([name, f"{mean:+.4f}", _told(t_interval(differences)), asked])
    return markdown_table(["", "minus probe", "95 % interval", ""], rows)


def t_interval(differences: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """95 % interval of a mean by Student's t; None of fewer than two.

    >>> [round(end, 3) for end in t_interval([0.0, 1.0, 2.0])]
    [-1.484, 3.484]
    """
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return None
    half = float(t.ppf(0.975, count - 1) * np.std(differences, ddof=1) / np.sqrt(count))
    return float(np.mean(differences)) - half, float(np.mean(differences)) + half


def costs(runs: Runs) -> str:
    """Bytes, seconds and the adapters' error."""
    rows = [
        [
            name,
            f"{max(one.bytes_up for one in found):,}",
            f"{np.mean([one.seconds for one in found]):.0f}",
            _errors(found),
        ]
        for name, found in runs.items()
    ]
    header = ["", "largest update, bytes", "training, s", "adapter error by round"]
    largest = max(one.bytes_up for found in runs.values() for one in found)
    reached = "reached" if largest < LARGEST_UPDATE else "missed"
    return "\n\n".join(
        [
            markdown_table(header, rows),
            f"Asked: every update under {LARGEST_UPDATE:,} bytes ({reached}); the whole model has "
            "90 MB. The adapter error is that of the new product against the weighted mean of the "
            "clients' products, mean over folds. Training: seconds, summed over clients and "
            "rounds, on a machine that others used at the same time.",
        ]
    )


def cold(cold: Mapping[str, float] | None) -> list[str]:
    """The time of one whole run."""
    if cold is None:
        return []
    reached = "reached" if cold["seconds"] < LONGEST_SECONDS else "missed"
    return [
        f"One federated run that remembered nothing, {cold['workers']} worker processes: "
        f"{cold['seconds']:.0f} s, in which they computed for {cold['processor_seconds']:.0f} s "
        f"(load average at the end {cold['load']}). Asked: under {LONGEST_SECONDS} s ({reached})."
    ]


def memory(peaks: Mapping[str, float] | None) -> list[str]:
    """Peaks beside plain PEFT."""
    if peaks is None:
        return []
    plain, own, clients = (f"{peaks[road]:.0f} MB" for road in ("plain", "round", "clients"))
    part = peaks["round"] / peaks["plain"]
    return [
        f"Peak memory (`benchmarks/adapter_memory.py`): plain PEFT training {plain}, a client's "
        f"round {own} ({part:.2f} of it; asked: at most {MOST_MEMORY}, "
        f"{'reached' if part <= MOST_MEMORY else 'missed'}), eight clients in one process "
        f"{clients}."
    ]


def _errors(found: Sequence[Measured]) -> str | None:
    rounds = sorted(found[0].adapter_errors)
    means = [np.mean([one.adapter_errors[number] for one in found]) for number in rounds]
    if not means:
        return None
    if max(means) < EXACT:
        return f"under {EXACT:g}"
    return ", ".join(f"{mean:.3f}" for mean in means)


def _told(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"


def _accuracy(runs: Sequence[Measured]) -> list[float]:
    return [one.test("accuracy") for one in runs]


def mean_accuracy(runs: Sequence[Measured]) -> float:
    """Over folds."""
    return float(np.mean(_accuracy(runs)))
