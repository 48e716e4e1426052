"""Does a client job: from the memo when it was done before, else by training or evaluating."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from fedcore import memo
from fedcore.assignment import Assignment
from fedcore.data.groups import groups_in
from fedcore.digests import digest_bytes, digest_json
from fedcore.evaluation import measure
from fedcore.jobs import ClientJob, JobKind
from fedcore.models.build import reusable_model
from fedcore.models.preprocess import Preprocess, preprocess_from_json
from fedcore.models.settings import ModelSettings
from fedcore.models.state import load_trainable, trainable_state
from fedcore.numerics import code_digest, numerics
from fedcore.outcomes import (
    ClientOutcome,
    ClientUpdate,
    Done,
    Evaluation,
    Failed,
    Refused,
    outcome_to_json,
)
from fedcore.privacy.budget import BudgetExceeded
from fedcore.privacy.charging import charging
from fedcore.privacy.owner import Owner
from fedcore.refs import Ref
from fedcore.sites.audit_entry import LogBroken
from fedcore.store import BlobAltered, BlobMissing, Store
from fedcore.strategies.drift import build_drift
from fedcore.task import Task
from fedcore.tensors import Arrays, encode
from fedcore.training.settings import TrainingSettings
from fedcore.training.threads import one_thread
from fedcore.training.train import predict, train

MACHINE_TROUBLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}

_MODEL: TypeAdapter[Any] = TypeAdapter(ModelSettings)
_TRAINING: TypeAdapter[Any] = TypeAdapter(TrainingSettings)


def execute(job: ClientJob, store: Store, cache: Path, owner: Owner | None = None) -> ClientOutcome:
    """What the client's job comes back with; the same bytes in every engine.

    An exception of the client's own (diverged training, a model that raises, unreadable data) is a
    :class:`fedcore.outcomes.Failed` with its reason. Trouble of this machine is not the client's
    and is raised: a full disk, a missing or altered blob of the store, no memory, other sources
    than those that planned the job.

    Of a job with privacy for records nothing is put into the store before the owner's ledger has
    it. What would take the data beyond their budget is :class:`fedcore.outcomes.Refused`.

    Args:
      owner: of the client's data; not needed without privacy.
    """
    if (done := remembered(job, store)) is not None:
        return done
    _require_same_code(job)
    started = time.monotonic()
    try:
        result = _WORK[job.kind](job, store, cache, owner)
    except (BlobMissing, BlobAltered, MemoryError, LogBroken):
        raise
    except BudgetExceeded as error:
        return Refused(job.client, job.key, str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_TROUBLE:
            raise
        return Failed(job.client, job.key, f"{type(error).__name__}: {error}"[:500])
    done = Done(job.client, job.key, result, seconds=round(time.monotonic() - started, 3))
    memo.remember(store, done)
    return done


def remembered(job: ClientJob, store: Store) -> Done | None:
    """The job's outcome from the memo, under this job's client, or None."""
    done = memo.recall(store, job.key)
    return None if done is None else replace(done, client=job.client)


class OtherCode(RuntimeError):
    """The job was planned by other sources or releases than those that would do it."""


def _require_same_code(job: ClientJob) -> None:
    here = numerics(**{name: job.numerics[name] for name in ("device", "dtype", "backend")})
    if job.code != code_digest() or dict(job.numerics) != here:
        raise OtherCode(
            f"round {job.round}, client {job.client}: planned with code {job.code[:12]} and "
            f"{dict(job.numerics)}, but here are code {code_digest()[:12]} and {here}. Start "
            "the run again with one installation on one kind of machine."
        )


def execute_json(payload: str) -> str:
    """``execute`` for a worker process: JSON of ``job``, ``store``, ``cache`` and ``owner`` to an
    outcome's JSON."""
    value = json.loads(payload)
    owner = None if value["owner"] is None else Owner.from_json(value["owner"])
    outcome = execute(
        ClientJob.from_json(value["job"]), _opened(value["store"]), Path(value["cache"]), owner
    )
    return json.dumps(outcome_to_json(outcome))


@lru_cache(maxsize=4)
def _opened(url: str) -> Store:
    return Store(url)


def _train(job: ClientJob, store: Store, cache: Path, owner: Owner | None) -> ClientUpdate:
    settings = job.settings
    asked = Assignment.from_json(settings["assignment"])
    params = store.get_arrays(job.base)
    data = _shard(store, job.data)
    model, task, preprocess = _prepared(job, asked.start(params))
    weights = settings["class_weights"]
    private = charging(job, owner)
    if private is not None:
        private.require()
    trained = train(
        model,
        data["inputs"],
        data["targets"],
        task=task,
        preprocess=preprocess,
        settings=_TRAINING.validate_python(settings["training"]),
        learning_rate=settings["learning_rate"],
        seed=job.seed,
        names=(job.round, job.client),
        drift=build_drift(settings["drift"]),
        class_weights=None if weights is None else np.array(weights),
        cache=_features(job, cache),
        device=job.numerics["device"],
        private=None if private is None else private.noise,
        key=None if private is None else private.key,
        parts=asked.parts,
        groups=groups_in(data),
    )
    anchor, after = asked.expected(params), trainable_state(model)
    delta: Arrays = {name: after[name] - anchor[name] for name in anchor}
    if private is not None:
        delta = private.protected(delta)
        private.charge(digest_bytes(encode(delta)))
    ref = store.put_arrays(delta, "delta")
    metrics = {} if private else dict(trained.metrics)  # how well it went tells of the data too
    return ClientUpdate(job.base.digest, ref, trained.num_examples, metrics)


def _evaluate(job: ClientJob, store: Store, cache: Path, owner: Owner | None) -> Evaluation:
    settings = job.settings
    data = _shard(store, job.data)
    model, task, preprocess = _prepared(job, store.get_arrays(job.base))
    logits = predict(
        model,
        data["inputs"],
        preprocess=preprocess,
        batch_size=settings["batch_size"],
        cache=_features(job, cache),
        device=job.numerics["device"],
        parts=settings["parts"],
    )
    with one_thread():  # sums in measure differ in the last bit by number of threads
        metrics = measure(task, logits, data["targets"])
    scores = None
    if job.keep_scores:
        kept = {"scores": task.scores(logits).astype(np.float32), "targets": data["targets"]}
        scores = store.put_arrays(kept, "scores")
    return Evaluation(len(data["targets"]), metrics, scores)


Work = Callable[[ClientJob, Store, Path, Owner | None], ClientUpdate | Evaluation]
_WORK: Mapping[JobKind, Work] = {
    JobKind.TRAIN: _train,
    JobKind.EVALUATE: _evaluate,
}


def _prepared(job: ClientJob, params: Mapping[str, np.ndarray]) -> tuple[Any, Task, Preprocess]:
    settings = job.settings
    task = Task.from_json(settings["task"])
    model = reusable_model(
        _MODEL.validate_python(job.model),
        task,
        tuple(settings["input_shape"]),
        settings["init_seed"],
        settings["model"],
    )
    load_trainable(model, params)
    return model, task, preprocess_from_json(settings["preprocess"])


def _features(job: ClientJob, cache: Path) -> Path:
    """Where features and tokens of this model are kept: all that decides them but preprocessing and
    data."""
    decides = [job.settings["model"], dict(job.numerics), job.code]
    return cache / digest_json(decides)[:16]


def _shard(store: Store, ref: Ref) -> dict[str, np.ndarray]:
    return _cached_shard(store.url, ref)


@lru_cache(maxsize=32)
def _cached_shard(url: str, ref: Ref) -> dict[str, np.ndarray]:
    """A shard verified once in this process; 32 are kept because cohorts return each round."""
    return _opened(url).get_arrays(ref)
