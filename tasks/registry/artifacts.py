"""The files of a run in MLflow: written when it is logged, read back for lineage and comparison."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedcore import tensors
from fedcore.decisions import Decision
from fedcore.digests import canonical_json
from fedcore.report.curves import plot_curves
from fedcore.report.tables import report_markdown
from tasks.registry import tags
from tasks.registry.finished_run import CentralScores, FinishedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONFIG = "config.yaml"
CURVES = "curves.png"
REPORT = "report.md"
HEADER = "chain/header.json"
ROUNDS = "chain/rounds.jsonl"
DECISIONS = "chain/decisions.jsonl"
EVALUATION = "evaluation/evaluation.json"
TEST_SCORES = "evaluation/test_scores.safetensors"
PRIVACY_AUDIT = "privacy/audit.json"
RECONSTRUCTIONS = "privacy/reconstructions.png"


def write_artifacts(folder: Path, run: FinishedRun) -> None:
    """Writes the run's artifacts into ``folder``, the way they lie in MLflow."""
    curves = plot_curves(run.records, title=run.name)
    files: dict[str, bytes | str] = {
        CONFIG: yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True),
        CURVES: curves,
        REPORT: run_report(run, curves),
        HEADER: canonical_json(run.header) + "\n",
        ROUNDS: "".join(canonical_json(record) + "\n" for record in run.records),
        EVALUATION: canonical_json({"round": run.round, "splits": run.evaluation}) + "\n",
    }
    if run.decisions:
        files[DECISIONS] = "".join(canonical_json(one) + "\n" for one in run.decisions)
    for name in ("task", "features", "preprocess", "scaling"):
        files[f"data/{name}.json"] = canonical_json(run.header[name]) + "\n"
    if run.manifest:
        files["partition/manifest.parquet"] = run.manifest
    if run.partition_picture:
        files["partition/partition.png"] = run.partition_picture
    if run.audit:
        files["audit/audit.json"] = canonical_json(run.audit.json) + "\n"
        files["audit/audit.html"] = run.audit.html
    if run.attacked:
        files[PRIVACY_AUDIT] = canonical_json(run.attacked.json) + "\n"
    if run.reconstructions:
        files[RECONSTRUCTIONS] = run.reconstructions
    if run.test:
        files[TEST_SCORES] = tensors.encode(
            {"scores": run.test.scores, "targets": run.test.targets}
        )
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def run_report(run: FinishedRun, curves: bytes) -> str:
    """The run's report in markdown, with its pictures inside."""
    pictures: dict[str, bytes | str] = {"Learning curves": curves}
    if run.partition_picture:
        pictures["Samples by client and class"] = run.partition_picture
    if run.reconstructions:
        pictures["What one update shows of a row"] = run.reconstructions
    facts = {
        "data": f"{run.dataset} `{run.tags[tags.DATASET_FINGERPRINT][:12]}`",
        "strategy": run.strategy,
        "seed": run.config["seed"],
        "rounds": f"{len(run.records)}; the model is that of round {run.round}",
        **({"begins with": str(run.origin)} if run.origin else {}),
        "final digest": f"`{run.model_digest}`",
        "config digest": f"`{run.tags[tags.CONFIG_DIGEST]}`",
        "epsilon": run.epsilon,
        **({"privacy audit": str(run.attacked.verdict)} if run.attacked else {}),
        **run.facts,
        **{label: f"<{url}>" for label, url in run.links.items()},
    }
    return report_markdown(
        title=run.name,
        facts=facts,
        records=run.records,
        audit=run.audit.body if run.audit else "",
        pictures=pictures,
        notes=[*run.notes, *(f"Decision: {Decision.from_json(one)}" for one in run.decisions)],
    )


@dataclass(frozen=True)
class LoggedRun:
    """A run as MLflow holds it.

    Attributes:
      header, records, decisions: as in :class:`tasks.registry.finished_run.FinishedRun`.
      round: the round whose model was taken.
      evaluation: split -> metrics of that model.
      test: scores on the central test data, or None.
      attacked: what attacks found, by attack, or None.
    """

    header: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    round: int
    evaluation: Mapping[str, Any]
    test: CentralScores | None
    decisions: tuple[Mapping[str, Any], ...] = ()
    attacked: Mapping[str, Any] | None = None


def read_run(client: MlflowClient, mlflow_run_id: str) -> LoggedRun:
    """Reads a logged run back.

    Raises:
      LookupError: the MLflow run holds no round chain: Fedloom did not log it, or not to the end.
    """
    files = _files(client, mlflow_run_id, ("chain", "evaluation", "privacy"))
    if HEADER not in files or EVALUATION not in files:
        raise LookupError(
            f"MLflow run {mlflow_run_id} holds no {HEADER}: it was not logged by Fedloom, or its "
            "logging did not finish; run the same config again to complete it."
        )
    evaluation = json.loads(files[EVALUATION])
    test = None
    if TEST_SCORES in files:
        test = CentralScores(**tensors.decode(files[TEST_SCORES]))
    return LoggedRun(
        json.loads(files[HEADER]),
        tuple(json.loads(line) for line in files[ROUNDS].splitlines()),
        evaluation["round"],
        evaluation["splits"],
        test,
        tuple(json.loads(line) for line in files.get(DECISIONS, b"").splitlines()),
        json.loads(files[PRIVACY_AUDIT]) if PRIVACY_AUDIT in files else None,
    )


def read_text(client: MlflowClient, mlflow_run_id: str, name: str) -> str:
    """One text artifact of a run; ``LookupError`` when there is none."""
    folder = str(Path(name).parent)
    files = _files(client, mlflow_run_id, ("" if folder == "." else folder,), only=name)
    if name not in files:
        raise LookupError(f"MLflow run {mlflow_run_id} holds no {name}.")
    return files[name].decode()


def _files(
    client: MlflowClient, mlflow_run_id: str, folders: tuple[str, ...], only: str | None = None
) -> dict[str, bytes]:
    """Name -> bytes of the files directly in some artifact folders."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="fedloom-") as scratch:
        for folder in folders:
            for item in client.list_artifacts(mlflow_run_id, folder or None):
                if not item.is_dir and only in (None, item.path):
                    local = client.download_artifacts(mlflow_run_id, item.path, scratch)
                    found[item.path] = Path(local).read_bytes()
    return found
