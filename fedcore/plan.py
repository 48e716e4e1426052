"""Everything a run needs before its first round: data by digest, the first model, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedcore.adapters.choice import rank_of
from fedcore.adapters.fitted import require_fitted
from fedcore.assignment import Assignment, assignment
from fedcore.config import RunConfig, make_config
from fedcore.config_and_data import check_groups, check_settings
from fedcore.data.dataset import Dataset
from fedcore.decisions import Decision, dropped, not_yet
from fedcore.federation import CENTRAL, Federation, share_out
from fedcore.global_model import GlobalModel
from fedcore.jobs import ClientJob, JobKind
from fedcore.models.build import build_model
from fedcore.models.parts import part_of
from fedcore.models.preprocess import preprocess_for
from fedcore.models.state import trainable_state
from fedcore.numerics import code_digest, numerics
from fedcore.origin import Origin
from fedcore.participation import Coin, public_coin
from fedcore.partition.partition import Partition
from fedcore.privacy.checks import uncovered
from fedcore.privacy.private_job import data_budget, private_settings
from fedcore.refs import Ref
from fedcore.standardise import standardisers
from fedcore.store import Store
from fedcore.strategies.algorithm import Algorithm
from fedcore.task import Task
from fedcore.training.class_weights import balanced_weights
from fedcore.training.device import available_devices, choose_device

# Fields of ``training`` that a client's round does not depend on: its rate, parts and device are in
# the job by value.
NOT_OF_THE_CLIENT = {
    *("eval_batch_size", "schedule", "learning_rate", "device"),
    *("head_rounds", "head_learning_rate"),
}


@dataclass(frozen=True)
class RunPlan:
    """What will run, on which samples, where.

    Attributes:
      config: the resolved configuration.
      task: what is learned.
      features: JSON description of one input.
      federation: who holds what.
      preprocess: JSON of how the model reads the samples in the store.
      scaling: client id (and ``_central``) -> JSON of how tables were scaled before they were
        shared out; empty for images and texts.
      input_shape: one preprocessed input.
      class_weights: of the whole federation, where training uses them; a client's own are its own
        business.
      initial: the model before round 1.
      identity: JSON digests: config, dataset, partition, code; and numerics.
      warnings: sentences for the operator, e.g. a device that was not there.
      origin: where the run was forked from, or None.
      decisions: what people decided so far, in order.
    """

    config: RunConfig
    task: Task
    features: Mapping[str, Any]
    federation: Federation
    preprocess: Mapping[str, Any]
    scaling: Mapping[str, Mapping[str, Any]]
    input_shape: tuple[int, ...]
    class_weights: tuple[float, ...] | None
    initial: GlobalModel
    identity: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    origin: Origin | None = None
    decisions: tuple[Decision, ...] = ()

    @property
    def algorithm(self) -> Algorithm:
        """The federated algorithm as functions."""
        return self.config.strategy.build()

    def cohort(self, round: int, coin: Coin | None = None) -> tuple[str, ...]:
        """Client ids drawn for a round, sorted; by coins of the run's seed where none are given."""
        coin = coin or public_coin(self.config.seed)
        return self.config.participation.build()(self.asked(round), round, coin)

    def asked(self, round: int) -> tuple[str, ...]:
        """Client ids that a round may draw, sorted: all but the excluded, those dropped before and
        those added later."""
        left_out = {*self.config.rounds.exclude_clients, *dropped(self.decisions, round)}
        return tuple(client for client in self._there(round) if client not in left_out)

    def _there(self, round: int) -> tuple[str, ...]:
        later = not_yet(self.decisions, round)
        return tuple(client for client in self.federation.ids if client not in later)

    def after(self, decisions: Sequence[Decision]) -> RunPlan:
        """The plan once people have decided, and sites were added."""
        held = {client: value for one in decisions for client, value in one.held.items()}
        federation = self.federation.with_clients(held)
        return replace(self, decisions=tuple(decisions), federation=federation)

    def model_after(self, round: int, params: Ref, state: Ref | None) -> GlobalModel:
        """The model that the round after a recorded one starts from."""
        if self.origin is not None and self.origin.round == round:
            state = self.origin.state
        return GlobalModel(round, params, state)

    def header(self) -> dict[str, Any]:
        """The run's header: what its chain starts from. ``speed`` is not in it."""
        return {
            **({"origin": self.origin.to_json()} if self.origin else {}),
            "config": self.config.model_dump(mode="json", exclude={"speed"}),
            "task": self.task.to_json(),
            "features": dict(self.features),
            "federation": self.federation.to_json(),
            "preprocess": dict(self.preprocess),
            "scaling": {client: dict(how) for client, how in self.scaling.items()},
            "input_shape": list(self.input_shape),
            "class_weights": self.class_weights and list(self.class_weights),
            "initial": _model_json(self.initial),
            "identity": dict(self.identity),
        }

    @staticmethod
    def from_header(header: Mapping[str, Any]) -> RunPlan:
        """The plan of a run that has begun."""
        initial, origin = header["initial"], header.get("origin")
        weights = header["class_weights"]
        return RunPlan(
            make_config(header["config"], source="run header"),
            Task.from_json(header["task"]),
            header["features"],
            Federation.from_json(header["federation"]),
            header["preprocess"],
            header["scaling"],
            tuple(header["input_shape"]),
            None if weights is None else tuple(weights),
            GlobalModel(
                0,
                Ref(**initial["params"]),
                Ref(**initial["state"]) if initial["state"] else None,
            ),
            header["identity"],
            origin=Origin.from_json(origin) if origin else None,
        )

    def assignment(self, round: int, client: str | None = None) -> Assignment:
        """What a client is asked to train in a round; without one: at the global model's rank."""
        if client is None:
            return assignment(self.config, round)
        sizes = {client: self.federation.clients[client].sizes["train"]}
        return assignment(self.config, round, rank_of(self.config, client, sizes))

    def train_jobs(self, round: int, base: Ref, cohort: Sequence[str]) -> list[ClientJob]:
        """What each client of the cohort is asked to do, in canonical order."""
        training = self.config.training
        mode = getattr(self.config.model, "mode", None)
        shared = {
            "training": training.model_dump(mode="json", exclude=NOT_OF_THE_CLIENT),
            "learning_rate": training.learning_rate_at(round, self.config.rounds.count, mode),
            "class_weights": self.class_weights and list(self.class_weights),
            "drift": dict(self.algorithm.drift),
        }
        privacy = self.config.privacy
        rounds = self.config.participation.participations(self.config.rounds.count)
        holdings = {client: self.federation.clients[client] for client in cohort}
        return [
            replace(
                self._job(
                    JobKind.TRAIN,
                    client,
                    round,
                    base,
                    held.blobs["train"],
                    shared
                    | {
                        "privacy": private_settings(
                            privacy, training, rounds, held.sizes["train"], held.groups
                        )
                    }
                    | {"assignment": self.assignment(round, client).to_json()},
                ),
                data_budget=data_budget(privacy),
            )
            for client, held in holdings.items()
        ]

    def evaluate_jobs(
        self, round: int, base: Ref, split: str, *, keep_scores: bool = False
    ) -> list[ClientJob]:
        """Measure a model on the central samples of a split and on each client's own part."""
        places = [(CENTRAL, self.federation.central.get(split))]
        if self.config.evaluation.clients:
            places += [
                (client, self.federation.clients[client].blobs.get(split))
                for client in self._there(round)
            ]
        own = {
            "batch_size": self.config.training.eval_batch_size,
            "parts": list(self.assignment(round).parts),
        }
        return [
            self._job(JobKind.EVALUATE, client, round, base, blob, own, keep_scores)
            for client, blob in places
            if blob is not None
        ]

    def _job(
        self,
        kind: JobKind,
        client: str,
        round: int,
        base: Ref,
        data: Ref,
        own: Mapping[str, Any],
        keep_scores: bool = False,
    ) -> ClientJob:
        settings = {
            "model": self.identity["model"],
            "task": self.task.to_json(),
            "input_shape": list(self.input_shape),
            "preprocess": dict(self.preprocess),
            "init_seed": self.config.seed,
            **own,
        }
        return ClientJob(
            kind,
            client,
            round,
            self.config.seed,
            base,
            data,
            settings,
            self.identity["numerics"],
            self.identity["code"],
            self.config.model.model_dump(mode="json"),
            keep_scores=keep_scores,
        )


def prepare(config: RunConfig, dataset: Dataset, partition: Partition, store: Store) -> RunPlan:
    """The plan of a run over a partitioned data set; its shards and first model go to the store.

    Raises:
      ValueError: settings that cannot work on this data.
    """
    check_groups(config.privacy, dataset)
    check_settings(
        config, dataset.name, dataset.task, partition.clients, dataset.splits, dataset.kind
    )
    scaling = (
        standardisers(config.preprocessing.standardise, dataset, partition)
        if dataset.kind == "table"
        else {}
    )
    federation = share_out(dataset, partition, store, scaling)
    about = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "provenance": dict(dataset.provenance),
        "partition": partition.digest,
    }
    return assemble(
        config,
        store,
        task=dataset.task,
        features=dataset.features,
        shape=dataset.splits["train"].inputs.shape[1:],
        federation=federation,
        class_weights=federation_weights(config, dataset.task, federation),
        scaling={client: how.to_json() for client, how in scaling.items()},
        about=about,
    )


def federation_weights(
    config: RunConfig, task: Task, federation: Federation
) -> tuple[float, ...] | None:
    """Weights of the labels by all clients' counts, where training asks for them."""
    if config.training.class_weights != "federation":
        return None
    holdings = federation.clients.values()
    counts = np.sum([holding.labels for holding in holdings], axis=0)
    size = sum(holding.sizes["train"] for holding in holdings)
    return tuple(float(weight) for weight in balanced_weights(task, counts, size))


def assemble(
    config: RunConfig,
    store: Store,
    *,
    task: Task,
    features: Mapping[str, Any],
    shape: tuple[int, ...],
    federation: Federation,
    class_weights: tuple[float, ...] | None,
    scaling: Mapping[str, Mapping[str, Any]],
    about: Mapping[str, Any],
) -> RunPlan:
    """The plan of a run over data that are shared out, without a row; its first model is kept.

    Args:
      shape: one input before preprocessing.
      class_weights, scaling: as in the plan.
      about: what the plan's identity says of the data: dataset, fingerprint, provenance, partition.
    """
    training = config.training
    device, warning = choose_device(training.device, available_devices())
    preprocess = preprocess_for(config.model, features)
    input_shape = preprocess.output_shape(shape)
    model = build_model(config.model, task, input_shape, config.seed)
    params = trainable_state(model)
    require_fitted(config, model, params)
    if training.head_rounds and not any(part_of(name) == "head" for name in params):
        raise ValueError(
            f"training.head_rounds={training.head_rounds} trains the head alone, and a model of "
            f"kind={config.model.kind!r} has none apart; set training.head_rounds: 0."
        )
    state = config.strategy.build().init(params)
    initial = GlobalModel(
        0,
        store.put_arrays(params, "model"),
        store.put_arrays(state, "server-state") if state else None,
    )
    identity = {
        "config": config.digest,
        **about,
        "model": config.model.identity(),
        "backbone": config.model.backbone_digest(),
        "code": code_digest(),
        "numerics": numerics(device=device, dtype=training.dtype, backend=training.kind),
    }
    return RunPlan(
        config,
        task,
        features,
        federation,
        preprocess.to_json(),
        scaling,
        tuple(input_shape),
        class_weights,
        initial,
        identity,
        ((warning,) if warning else ()) + uncovered(config),
    )


def _model_json(model: GlobalModel) -> dict[str, Any]:
    return {
        "params": vars(model.params) | {},
        "state": vars(model.state) | {} if model.state else None,
    }
