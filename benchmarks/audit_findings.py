"""What the data audit finds in each data set at hand: ``python -m benchmarks.audit_findings``.

Writes ``docs/data-audit.md``. Takes about a minute; sets that are not on this machine are left out.
"""

from __future__ import annotations

from pathlib import Path

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
)
from tasks.audit import run_audit
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
    Newsgroups(download=False),
)
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

{details}"""


def main() -> None:
    """Audits every set that is on this machine and writes the page."""
    reports = []
    for source in SOURCES:
        try:
            reports.append(run_audit(source.load(data_folder()), SETTINGS))
        except DataNotFound as missing:
            print(f"left out: {missing}")
            continue
        print(reports[-1].to_markdown())
    PAGE.write_text(page(reports), encoding="utf-8")


def page(reports: list[AuditReport]) -> str:
    """The page as Markdown."""
    names = ["data set", "train / val / test", *(name for name, _ in COLUMNS), "dropped"]
    rows = [names, ["---"] * len(names), *(_row(report) for report in reports)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    details = "\n".join(report.to_markdown().replace("# Data", "## Data") for report in reports)
    near = SETTINGS.near_duplicates
    return TEXT.format(
        table=table,
        details=details.rstrip() + "\n",
        threshold=near.threshold,
        similarity=near.similarity,
    )


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
