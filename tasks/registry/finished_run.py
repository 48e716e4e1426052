"""Everything MLflow is told about a finished run, as plain released values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fedcore.attacks.found import Found
from fedcore.digests import digest_arrays, digest_json
from fedcore.origin import Origin
from fedcore.task import Task
from tasks.registry import tags

NOT_PRIVATE = "none (not private)"
MEAN_OF_CLIENTS = (
    "Overall scores are means over clients, weighted by their samples, which nobody has together: "
    "an AUC or a balanced accuracy over all samples would be another number."
)


@dataclass(frozen=True)
class CentralScores:
    """What the model said about the central test data, for intervals and later comparisons.

    Attributes:
      scores: (n, outputs) as ``Task.scores`` gives.
      targets: as in :class:`fedcore.task.TaskKind`.
    """

    scores: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class AuditFiles:
    """The data audit in its three forms.

    Attributes:
      json: the report as a JSON value.
      html: one page that needs no network.
      markdown: the findings for the report and the model card, which give it its heading.
    """

    json: Mapping[str, Any]
    html: str
    markdown: str

    @property
    def body(self) -> str:
        """The markdown without a title of its own."""
        lines = self.markdown.strip().splitlines()
        return "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines).strip()


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
      run_id: id of the run's chain.
      header: the chain's header, JSON, as :meth:`fedcore.plan.RunPlan.header` gives.
      records: JSON of all rounds, oldest first.
      round: the round whose model is taken.
      params: its trainable parameters.
      evaluation: split -> ``{"overall": {...}, "clients": {client: {...}}}`` of that model.
      frozen: every other tensor of the model's state (a pretrained backbone), so that serving needs
        no hub.
      audit: the data audit, or None when there was none.
      manifest: the partition's parquet bytes.
      partition_picture: PNG bytes.
      test: scores on the central test data, or None where there are none to release.
      epsilon: privacy spent.
      facts: more rows for the report, e.g. parameters, memory, seconds.
      links: label -> URL, e.g. of the flow run.
      decisions: JSON of what people decided, in order.
      attacked: what attacks on one of its clients found, or None when there were none.
      reconstructions: PNG bytes of what updates show of single rows, without the rows.
    """

    run_id: str
    header: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    round: int
    params: Mapping[str, np.ndarray]
    evaluation: Mapping[str, Any]
    frozen: Mapping[str, np.ndarray] = field(default_factory=dict)
    audit: AuditFiles | None = None
    manifest: bytes = b""
    partition_picture: bytes = b""
    test: CentralScores | None = None
    epsilon: str = NOT_PRIVATE
    facts: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    decisions: Sequence[Mapping[str, Any]] = ()
    attacked: Found | None = None
    reconstructions: bytes = b""

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved config, without what only changes speed."""
        return self.header["config"]

    @property
    def notes(self) -> list[str]:
        """What a reader of its scores must know."""
        has_clients = any(one.get("clients") for one in self.evaluation.values())
        return [MEAN_OF_CLIENTS] if self.test is None and has_clients else []

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return str(self.header["identity"]["dataset"])

    @property
    def strategy(self) -> str:
        """Name of the federated algorithm."""
        return str(self.config["strategy"]["kind"])

    @property
    def name(self) -> str:
        """What people call it: data set, strategy and seed."""
        return f"{self.dataset}-{self.strategy}-{self.config['seed']}"

    @property
    def model_name(self) -> str:
        """The registered model that it becomes a version of."""
        return self.config["registry"]["model_name"] or f"fedloom-{self.dataset}"

    @property
    def is_refuted(self) -> bool:
        """Whether an attack disproved the epsilon that it claims."""
        return self.attacked is not None and not self.attacked.verdict.passed

    @cached_property
    def task(self) -> Task:
        """What was learned."""
        return Task.from_json(self.header["task"])

    @cached_property
    def model_digest(self) -> str:
        """The final digest: of the sorted trainable tensors."""
        return digest_arrays(self.params)

    @cached_property
    def chain_head(self) -> str:
        """Digest of the last record, or of the header when there is none."""
        return digest_json(self.records[-1] if self.records else self.header)

    @property
    def origin(self) -> Origin | None:
        """Where the run was forked from, or None."""
        origin = self.header.get("origin")
        return Origin.from_json(origin) if origin else None

    @cached_property
    def tags(self) -> dict[str, str]:
        """The tags of its MLflow run and of its model version."""
        identity = self.header["identity"]
        return {
            tags.RUN_ID: self.run_id,
            tags.DATASET: self.dataset,
            tags.DATASET_FINGERPRINT: identity["fingerprint"],
            tags.CONFIG_DIGEST: identity["config"],
            tags.PARTITION_DIGEST: identity["partition"],
            tags.CODE_DIGEST: identity["code"],
            tags.BACKBONE_DIGEST: identity.get("backbone") or "none",
            tags.AUDIT_DIGEST: digest_json(self.audit.json) if self.audit else "none",
            tags.MODEL_DIGEST: self.model_digest,
            tags.CHAIN_HEAD: self.chain_head,
            tags.ROUND: str(self.round),
            tags.STRATEGY: self.strategy,
            tags.SEED: str(self.config["seed"]),
            tags.EPSILON: self.epsilon,
            **self._origin_tags(),
            **self._attack_tags(),
            **({tags.DECISIONS: digest_json(self.decisions[-1])} if self.decisions else {}),
        }

    def _origin_tags(self) -> dict[str, str]:
        if (origin := self.origin) is None:
            return {}
        return {
            tags.PARENT_RUN: origin.run,
            tags.PARENT_ROUND: str(origin.round),
            tags.PARENT_RECORD: origin.record,
        }

    def _attack_tags(self) -> dict[str, str]:
        if (found := self.attacked) is None:
            return {}
        verdict, bound = found.verdict, found.verdict.bound
        claimed = "none" if verdict.claims_nothing else f"{verdict.claimed:.4g}"
        told = {tags.MEMBERSHIP_AUC: found.auc, tags.RECONSTRUCTION_COSINE: found.cosine}
        return {
            tags.PRIVACY_AUDIT: verdict.word,
            tags.PRIVACY_AUDIT_DIGEST: digest_json(found.json),
            tags.EPSILON_CLAIMED: claimed,
            tags.EPSILON_AT_LEAST: f"{bound.epsilon:.4g}",
            tags.EPSILON_CONFIDENCE: f"{bound.confidence:g}",
            **{name: f"{value:.4g}" for name, value in told.items() if value is not None},
        }
