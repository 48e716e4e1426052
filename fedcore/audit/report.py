"""The result of an audit: findings, what was dropped, and whether the run may go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from fedcore.audit.finding import Finding
from fedcore.audit.wording import count_of


@dataclass(frozen=True)
class AuditReport:
    """What an audit says.

    Attributes:
      subject: name of the data set, and of the partition where one was audited.
      fingerprint: of the data set.
      sizes: samples of each split, before any was dropped.
      settings: JSON of the audit's settings.
      checks: names of the checks that ran.
      findings: errors first.
      dropped: split -> indices that the run leaves out.
      reason: why the run may not go on, one sentence; empty when it may.
    """

    subject: str
    fingerprint: str
    sizes: Mapping[str, int]
    settings: Mapping[str, Any]
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    dropped: Mapping[str, tuple[int, ...]]
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the run may go on."""
        return not self.reason

    @property
    def exclusions(self) -> dict[str, np.ndarray]:
        """Split -> (n,) int64 indices to leave out, as ``make_partition`` takes them."""
        return {split: np.array(indices, np.int64) for split, indices in self.dropped.items()}

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return {
            "subject": self.subject,
            "fingerprint": self.fingerprint,
            "sizes": dict(self.sizes),
            "settings": dict(self.settings),
            "checks": list(self.checks),
            "findings": [finding.to_json() for finding in self.findings],
            "dropped": {split: list(indices) for split, indices in self.dropped.items()},
            "reason": self.reason,
            "passed": self.passed,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> AuditReport:
        """The report that ``to_json`` described."""
        return AuditReport(
            subject=value["subject"],
            fingerprint=value["fingerprint"],
            sizes=value["sizes"],
            settings=value["settings"],
            checks=tuple(value["checks"]),
            findings=tuple(Finding.from_json(one) for one in value["findings"]),
            dropped={split: tuple(indices) for split, indices in value["dropped"].items()},
            reason=value["reason"],
        )

    def to_markdown(self) -> str:
        """The report as Markdown that needs nothing else to be read."""
        lines = [f"# Data audit: {self.subject}", "", f"**{self._verdict()}**", ""]
        lines += [f"- {name}: {text}" for name, text in self._facts()]
        if self.findings:
            lines += [
                "",
                "| | Check | Where | What was found | Remedy | Examples |",
                "|" + "---|" * 6,
            ]
            for row in self._rows():
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        return "\n".join([*lines, ""])

    def to_html(self) -> str:
        """The report as one HTML page: its style inside, nothing loaded from anywhere."""
        facts = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in self._facts()
        )
        head = "".join(
            f"<th>{cell}</th>"
            for cell in ("", "Check", "Where", "What was found", "Remedy", "Examples")
        )
        body = "".join(
            f'<tr class="{row[0]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        table = f"<table><tr>{head}</tr>{body}</table>" if body else "<p>No findings.</p>"
        title = escape(f"Data audit: {self.subject}")
        verdict = "passed" if self.passed else "failed"
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
            f'<p class="{verdict}">{escape(self._verdict())}</p><dl>{facts}</dl>{table}'
            "</body></html>"
        )

    def _verdict(self) -> str:
        if not self.passed:
            return f"Failed. {self.reason}"
        errors = sum(finding.severity == "error" for finding in self.findings)
        warnings = len(self.findings) - errors
        if not errors:
            return f"Passed: no errors, {count_of(warnings, 'warning')}."
        remedied = f"{count_of(errors, 'error')} with a remedy"
        return f"Passed: {remedied}, {count_of(warnings, 'warning')}."

    def _facts(self) -> list[tuple[str, str]]:
        dropped = ", ".join(f"{len(at)} of {split}" for split, at in self.dropped.items())
        return [
            ("samples", ", ".join(f"{split} {size}" for split, size in self.sizes.items())),
            ("dropped", dropped or "none"),
            ("remedy for leaks", str(self.settings.get("remedy", ""))),
            ("checks", ", ".join(self.checks)),
            ("data fingerprint", self.fingerprint),
        ]

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                finding.severity,
                finding.check,
                ", ".join(finding.splits),
                finding.message,
                finding.remedy or ("none" if finding.severity == "error" else "reported"),
                "; ".join(finding.examples),
            )
            for finding in self.findings
        ]


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #ccc;padding:.4rem;"
    "text-align:left;vertical-align:top}tr.error td:first-child{background:#f6c7c7}"
    "tr.warning td:first-child{background:#fbe7b2}.passed{color:#14692c;font-weight:bold}"
    ".failed{color:#a11;font-weight:bold}dt{font-weight:bold}dd{overflow-wrap:anywhere}"
)
