"""Where a model version came from: version, run, rounds, updates, data; checked by digest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcore import tensors
from fedcore.attacks.found import CLAIM
from fedcore.attacks.verdict import Verdict
from fedcore.decisions import Decision
from fedcore.digests import digest_arrays, digest_bytes, digest_json
from fedcore.origin import Origin
from fedcore.report.tables import short
from tasks.registry import tags
from tasks.registry.artifacts import REPORT, LoggedRun, read_run, read_text
from tasks.registry.connection import registry
from tasks.registry.log_run import find_run
from tasks.registry.model_version import VersionRef
from tasks.registry.privacy_gate import why_refused
from tasks.registry.promote import resolve_version

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Lineage:
    """The history of a version.

    Attributes:
      version: whose.
      tags: its tags.
      run: the run that made it.
      problems: what does not agree; empty when everything was checked and holds.
    """

    version: VersionRef
    tags: Mapping[str, str]
    run: LoggedRun
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(_tree(self))


def lineage(tracking_uri: str, version: str) -> Lineage:
    """Traces a version back to the data and checks each link on the way.

    Args:
      tracking_uri: of the registry.
      version: ``NAME/3``, ``NAME@champion`` or ``models:/...``.

    Raises:
      ValueError: there is no such version.
      LookupError: it was not made by Fedloom.
      RegistryUnavailable: MLflow does not answer.
    """
    with registry(tracking_uri) as client:
        chosen = resolve_version(client, version)
        found = client.get_model_version(chosen.name, chosen.version)
        if tags.RUN_ID not in found.tags or not found.run_id:
            raise LookupError(f"{chosen} was not made by Fedloom: it has no tag {tags.RUN_ID}.")
        run = read_run(client, found.run_id)
        params = _registered_params(client, found.tags.get(tags.LOGGED_MODEL, ""))
        champion = client.get_registered_model(chosen.name).aliases.get(tags.CHAMPION)
        problems = [*check_history(run, found.tags, params)]
        if str(champion) == chosen.version and (why := _refusal(run, found.tags)):
            problems.append(f"it is the champion, which `fedloom promote` would refuse: {why}")
        return Lineage(chosen, dict(found.tags), run, tuple(problems))


def report(tracking_uri: str, run: str) -> str:
    """The report of a run in markdown, by Fedloom's or MLflow's id of it.

    Raises:
      LookupError: there is no such run.
      RegistryUnavailable: MLflow does not answer.
    """
    from mlflow.exceptions import MlflowException

    with registry(tracking_uri) as client:
        found = find_run(client, run)
        if found is None:
            try:
                found = client.get_run(run)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                raise LookupError(f"run={run!r} is not in MLflow at {tracking_uri}.") from None
        return read_text(client, found.info.run_id, REPORT)


def check_history(
    run: LoggedRun, version_tags: Mapping[str, str], params: tensors.Arrays | None
) -> Iterator[str]:
    """What does not agree between chain, tags and registered tensors; nothing when all is well.

    Args:
      run: as MLflow holds it.
      version_tags: tags of the version.
      params: the registered trainable tensors, or None when they could not be found.
    """
    previous = digest_json(run.header)
    for number, record in enumerate(run.records, start=1):
        if record["round"] != number or record["previous"] != previous:
            yield f"round {number} does not follow the record before it"
        previous = digest_json(record)
    yield from _check_decisions(run, version_tags)
    attacked = None if run.attacked is None else digest_json(run.attacked)
    if attacked != version_tags.get(tags.PRIVACY_AUDIT_DIGEST):
        yield "what the privacy audit found is not what the version's tag names"
    if previous != version_tags.get(tags.CHAIN_HEAD):
        yield "the chain ends elsewhere than the version's tag says"
    identity = run.header["identity"]
    for key, name in _IDENTITY.items():
        if version_tags.get(name) != identity[key]:
            yield f"tag {name} differs from the run's header"
    if params is None:
        yield "the registered tensors were not found"
        return
    if digest_arrays(params) != version_tags.get(tags.MODEL_DIGEST):
        yield "the registered tensors are not those that the version's tag names"
    chosen = [record for record in run.records if record["round"] == run.round]
    if chosen and chosen[0]["model"]["digest"] != digest_bytes(tensors.encode(params)):
        yield f"the registered tensors are not the model of round {run.round}"


def _check_decisions(run: LoggedRun, version_tags: Mapping[str, str]) -> Iterator[str]:
    previous = digest_json(run.header)
    until: dict[int, str] = {}
    for number, decision in enumerate(run.decisions, start=1):
        if decision["number"] != number or decision["previous"] != previous:
            yield f"decision {number} does not follow the one before it"
        previous = until[decision["round"]] = digest_json(decision)
    last = previous if run.decisions else None
    if last != version_tags.get(tags.DECISIONS):
        yield "the decisions end elsewhere than the version's tag says"
    decided = ""
    for record in run.records:
        decided = until.get(record["round"] - 1, decided)
        if record.get("decided", "") != decided:
            yield f"round {record['round']} was not made after the decisions that are there"


def _refusal(run: LoggedRun, version_tags: Mapping[str, str]) -> str | None:
    asked = run.header["config"].get("attacks") or {}
    was_asked = asked.get("kind", "none") != "none"
    return why_refused(run.attacked, version_tags, was_asked=was_asked)


_IDENTITY = {
    "fingerprint": tags.DATASET_FINGERPRINT,
    "config": tags.CONFIG_DIGEST,
    "partition": tags.PARTITION_DIGEST,
    "code": tags.CODE_DIGEST,
}


def _registered_params(client: MlflowClient, model_id: str) -> tensors.Arrays | None:
    """The trainable tensors in a logged model's folder, or None when it is gone."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    path = "artifacts/model/params.safetensors"
    try:
        location = client.get_logged_model(model_id).artifact_location
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    with tempfile.TemporaryDirectory(prefix="fedloom-") as scratch:
        local = download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/{path}",
            dst_path=scratch,
            tracking_uri=client.tracking_uri,
        )
        return tensors.decode(Path(local).read_bytes())


def _tree(history: Lineage) -> Iterator[str]:
    run, its = history.run, history.tags
    identity = run.header["identity"]
    yield f"version {history.version}  model {short(its.get(tags.MODEL_DIGEST))}"
    if tags.PROMOTED_BY in its:
        yield (
            f"├─ champion by {its[tags.PROMOTED_BY]} at {its[tags.PROMOTED_AT]}: "
            f"{its[tags.PROMOTED_WHY]}"
        )
    if run.attacked:
        yield f"├─ privacy audit: {Verdict.from_json(run.attacked[CLAIM])}"
    yield f"├─ run {its[tags.RUN_ID]}  model of round {run.round} of {len(run.records)}"
    for key, name in _IDENTITY.items():
        yield f"│    {key} {short(its.get(name))}"
    if origin := run.header.get("origin"):
        for number, one in enumerate(Origin.from_json(origin).ancestors()):
            yield f"├─ {'begins with' if number == 0 else 'which began with'} {one}"
            yield f"│    config {short(one.config)}, code {short(one.code)}"
    for decision in run.decisions:
        yield f"├─ decision: {Decision.from_json(decision)}"
    yield f"├─ data {identity['dataset']}"
    for client, held in sorted(run.header["federation"]["clients"].items()):
        shares = ", ".join(
            f"{split} {held['sizes'][split]} in {short(ref)}"
            for split, ref in sorted(held["blobs"].items())
        )
        yield f"│    {client}: {shares}"
    yield "└─ rounds"
    yield f"     start: model {short(run.header['initial']['params'])}"
    for record in run.records:
        yield from _round(record)
    yield "checked: " + ("; ".join(history.problems) or "every digest agrees")


def _round(record: Mapping[str, Any]) -> Sequence[str]:
    lines = [f"     round {record['round']}: model {short(record['model'])}"]
    for client, outcome in sorted(record["outcomes"].items()):
        told = (
            f"update {short(outcome['update'])} from {outcome['num_examples']} samples"
            if outcome.get("update")
            else f"{outcome['status']}: {outcome.get('reason', '')}"
        )
        lines.append(f"       {client}: {told}")
    return lines
