"""What the data audit finds in each data set at hand: ``python -m benchmarks.audit_findings``.

Writes ``docs/data-audit.md``. Takes about a minute; sets that are not on this machine are left out.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import config_of
from fedcore.audit.report import AuditReport
from fedcore.audit.settings import AuditSettings
from fedcore.data.files import DataNotFound
from fedcore.data.settings import (
    MNIST,
    BreastCancer,
    DataSettings,
    Digits,
    FashionMNIST,
    HeartDisease,
    MedicalAbstracts,
    MedMNIST,
    Newsgroups,
    ScipyDocs,
)
from fedcore.partition.make import make_partition
from tasks.audit import run_audit, run_partition_audit
from tasks.home import data_folder

SOURCES: tuple[DataSettings, ...] = (
    MedMNIST(name="pneumoniamnist", download=False),
    MedMNIST(name="breastmnist", download=False),
    HeartDisease(download=False),
    BreastCancer(),
    Digits(),
    MNIST(download=False),
    FashionMNIST(download=False),
    MedicalAbstracts(download=False),
    ScipyDocs(),
    Newsgroups(download=False),
)
# Configurations whose partition of texts is audited too, as they ship.
PARTITIONED = ("medical-abstracts", "demo-text")
PAGE = Path(__file__).parent.parent / "docs" / "data-audit.md"
SETTINGS = AuditSettings(remedy="drop-from-train")
COLUMNS = (
    ("in two splits", "exact-duplicates"),
    ("repeated in a split", "repeated-samples"),
    ("other target", "conflicting-labels"),
    ("look alike", "near-duplicates"),
)
TEXT = """# What the data audit finds

Made by `python -m benchmarks.audit_findings`; do not edit. Settings: remedy `drop-from-train`,
which drops from training what validation or test have too and leaves test as it is; near
duplicates are images whose 64-bit perceptual hashes differ in at most {threshold} bits, and texts
that have {similarity:.0%} of their runs of five words in common (estimated by MinHash). Texts are
the same when only case, white space or the way to write a character tells them apart.

{table}

*In two splits*: different inputs that occur, byte for byte, in both. *Other target*: inputs that
occur twice with different targets. *Look alike*: images or texts of the later split with one in the
earlier split that is nearly the same. Among handwritten digits and clothes at 28 x 28
pixels many unrelated pictures do, so this is a warning and nothing is dropped for it. The second
row that two hospitals of heart-disease repeat (Hungary's) has a missing value and is left out by
its source before the audit sees it.

The 2888 rows of medical-abstracts hold 2770 texts: 113 of them are there two or three times, 118
rows too many, each time under another label. Its folds go by text, so that no text is in two
splits; the table has fold 0. Drawn by rows, a fifth for test would share about a third of these
texts with training, with other labels there.

scipy-docs is the openings of the docstrings of SciPy 1.17.1: 1334 in all, of which 1316 are
different. The same opening is there up to nine times, always in one area; the source takes the
first of each, so that the audit has no repeats to find. What is left are functions that are
described in nearly the same words, as the trimmed variance and the trimmed standard deviation are.

Texts are compared across clients too, once they are divided. *Shared by clients*: texts of
training that two clients hold, written the same or not. *Alike at clients*: texts of training that
have a text of another client, not the same, that is nearly the same. Both are warnings that name
the clients. At [sites](sites.md) nobody sees the rows of two clients: texts that two sites share
are found by keyed fingerprints, texts that are only nearly the same are not.

| configuration | texts of training | clients | shared by clients | alike at clients |
| --- | --- | --- | --- | --- |
{partitions}

{details}"""


def main() -> None:
    """Audits every set that is on this machine and writes the page."""
    reports, partitions = [], []
    for source in SOURCES:
        try:
            reports.append(run_audit(source.load(data_folder()), SETTINGS))
        except DataNotFound as missing:
            print(f"left out: {missing}")
            continue
        print(reports[-1].to_markdown())
    for name in PARTITIONED:
        try:
            partitions.append(partition_audit(name))
        except DataNotFound as missing:
            print(f"left out: {missing}")
    PAGE.write_text(page(reports, partitions), encoding="utf-8")


def partition_audit(name: str) -> tuple[str, AuditReport, int]:
    """Name of a configuration, the audit of its partition, and how many clients that has."""
    config = config_of(name)
    dataset = config.data.load(data_folder())
    dropped = run_audit(dataset, config.audit).exclusions
    partition = make_partition(dataset, config.partition, config.seed, dropped)
    report = run_partition_audit(dataset, partition, config.audit, dropped)
    return name, report, len(partition.clients)


def page(reports: list[AuditReport], partitions: list[tuple[str, AuditReport, int]]) -> str:
    """The page as Markdown."""
    names = ["data set", "train / val / test", *(name for name, _ in COLUMNS), "dropped"]
    rows = [names, ["---"] * len(names), *(_row(report) for report in reports)]
    every = [*reports, *(report for _, report, _ in partitions)]
    details = "\n".join(report.to_markdown().replace("# Data", "## Data") for report in every)
    near = SETTINGS.near_duplicates
    return TEXT.format(
        table=_table(rows),
        partitions=_table([_partition_row(*one) for one in partitions]),
        details=details.rstrip() + "\n",
        threshold=near.threshold,
        similarity=near.similarity,
    )


def _table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _partition_row(name: str, report: AuditReport, clients: int) -> list[str]:
    counts = {finding.check: str(finding.count) for finding in report.findings}
    cells = [counts.get(check, "none") for check in ("shared-by-clients", "alike-at-clients")]
    return [name, str(report.sizes["train"]), str(clients), *cells]


def _row(report: AuditReport) -> list[str]:
    sizes = " / ".join(str(report.sizes.get(name, "-")) for name in ("train", "val", "test"))
    cells = []
    for _, check in COLUMNS:
        found = [finding for finding in report.findings if finding.check == check]
        cells.append(
            ", ".join(f"{finding.count} {'-'.join(finding.splits)}" for finding in found) or "none"
        )
    dropped = ", ".join(f"{len(at)} of {split}" for split, at in report.dropped.items()) or "none"
    return [report.subject, sizes, *cells, dropped]


if __name__ == "__main__":
    main()
