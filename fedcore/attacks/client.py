"""One client's training over all rounds of a run, as a function of the rows it trains on.

What an audit attacks: the same ``train`` with the same settings that the client's jobs carry, with
rows of the auditor's choice. The coordinator sees every update of a client and can subtract the
other clients' part of the model, so that the client is attacked alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcore.attacks.checks import PROMISES_GROUPS, promises_groups
from fedcore.data.dataset import Split
from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.parts import PARTS, part_of
from fedcore.models.preprocess import Preprocess, preprocess_from_json
from fedcore.models.state import load_trainable, trainable_state
from fedcore.privacy.clip_and_noise import clipped, noised
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.strategies.drift import build_drift
from fedcore.task import Task
from fedcore.tensors import Arrays
from fedcore.training.features import backbone_features
from fedcore.training.private.example_noise import ExampleNoise
from fedcore.training.samples import Samples
from fedcore.training.settings import LoopSettings, TrainingSettings
from fedcore.training.train import predict, train

if TYPE_CHECKING:
    from torch import nn

    from fedcore.models.settings import ModelSettings

TrainOn = Callable[[Split, str], Arrays]
"""``train_on(rows, trial)``: trainable parameters after training on the rows; ``trial`` names the
training, so that each has private randomness of its own."""


@dataclass(frozen=True)
class UpdateNoise:
    """What hides a client's whole update of a round before it leaves (``privacy.kind=local``).

    Attributes:
      clip_norm: C, bound of the update's L2 norm.
      noise_multiplier: standard deviation of the noise on each parameter, over C.
    """

    clip_norm: float
    noise_multiplier: float


@dataclass(frozen=True)
class ClientRound:
    """How the client trains in one round.

    Attributes:
      training: backend and its options.
      learning_rate: of the round.
      private: noise in the training itself or on its update, or None.
      drift: JSON of the algorithm's term on each gradient.
      class_weights: of the federation, or None.
      parts: of the model that are trained, of :data:`fedcore.models.parts.PARTS`.
    """

    training: TrainingSettings
    learning_rate: float
    private: ExampleNoise | UpdateNoise | None = None
    drift: Any = None
    class_weights: tuple[float, ...] | None = None
    parts: tuple[str, ...] = PARTS


@dataclass(frozen=True)
class AttackedClient:
    """A client, its rows and its rounds.

    Attributes:
      name: client id.
      rows: its training split.
      task: what is learned.
      model: settings of the model.
      preprocess: how the model reads rows.
      rounds: all that the client takes part in.
      seed: of the run, public.
    """

    name: str
    rows: Split
    task: Task
    model: ModelSettings
    preprocess: Preprocess
    rounds: tuple[ClientRound, ...]
    seed: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One preprocessed row."""
        return tuple(self.preprocess.output_shape(self.rows.inputs.shape[1:]))

    def build(self) -> nn.Module:
        """The model before round 1."""
        return build_model(self.model, self.task, self.input_shape, self.seed)

    def with_noise(self, factor: float) -> AttackedClient:
        """The same client with its noise multiplier times ``factor``: 0 clips and adds nothing."""
        return replace(
            self,
            rounds=tuple(
                replace(
                    each,
                    private=each.private
                    and replace(
                        each.private, noise_multiplier=each.private.noise_multiplier * factor
                    ),
                )
                for each in self.rounds
            ),
        )

    def without_privacy(self) -> AttackedClient:
        """The same client without clipping and noise: the non-private twin."""
        return replace(self, rounds=tuple(replace(each, private=None) for each in self.rounds))

    def trainer(self, secret: bytes) -> TrainOn:
        """Trains the client's rounds one after another, each from where the last one ended.

        Args:
          secret: 32 bytes of the auditor's; private randomness is derived from it.
        """

        def train_on(rows, trial):
            model = self.build()
            with tempfile.TemporaryDirectory() as cache:  # features of a frozen backbone, once
                for number, each in enumerate(self.rounds, 1):
                    key = derived_key(secret, "audit", trial, number)
                    self._train_round(model, rows, number, each, key, Path(cache))
            return trainable_state(model)

        return train_on

    def _train_round(
        self,
        model: nn.Module,
        rows: Split,
        number: int,
        each: ClientRound,
        key: bytes,
        cache: Path,
    ) -> None:
        before = trainable_state(model)
        train(
            model,
            rows.inputs,
            rows.targets,
            task=self.task,
            preprocess=self.preprocess,
            settings=each.training,
            learning_rate=each.learning_rate,
            seed=self.seed,
            names=(number, self.name),
            drift=build_drift(each.drift) if each.drift else None,
            class_weights=np.array(each.class_weights) if each.class_weights else None,
            cache=cache,
            private=each.private if isinstance(each.private, ExampleNoise) else None,
            key=key,
            parts=each.parts,
        )
        if isinstance(each.private, UpdateNoise):
            after, noise = trainable_state(model), each.private
            sent = [name for name in after if part_of(name) in each.parts]
            short = clipped({name: after[name] - before[name] for name in sent}, noise.clip_norm)
            left = noised(short, noise.noise_multiplier * noise.clip_norm, SecretStream(key))
            load_trainable(model, before | {name: before[name] + left[name] for name in sent})

    def reads(self, model: nn.Module, inputs: np.ndarray) -> tuple[nn.Module, Samples]:
        """What is trained and what it reads: the head on a frozen backbone's features, or all."""
        frozen = on_frozen_backbone(model)
        if frozen is None:
            return model, Samples(inputs, self.preprocess)
        return frozen.head, Samples(backbone_features(frozen, inputs, self.preprocess, None), None)

    def logits(self, params: Arrays, rows: Split) -> np.ndarray:
        """Logits (n, outputs) of the model with these parameters."""
        model = self.build()
        load_trainable(model, params)
        return predict(model, rows.inputs, preprocess=self.preprocess)

    def one_update(self, record: Split, secret: bytes) -> Arrays:
        """Parameters before minus after one step of plain SGD on one record, as an attacker has it.

        Clipping and noise are those of the first round; the record is in the batch for sure.
        """
        first = self.rounds[0]
        step = LoopSettings(
            batch_size=1, steps=1, optimizer="sgd", learning_rate=first.learning_rate
        )
        private = first.private
        if isinstance(private, ExampleNoise):
            private = replace(private, sampling_rate=1.0, steps=1)
        once = replace(first, training=step, private=private)
        before = trainable_state(self.build())
        after = replace(self, rounds=(once,)).trainer(secret)(record, "one update")
        return {name: before[name] - after[name] for name in before}


def choose_client(plan: Any, wanted: str) -> str:
    """The client that is attacked: the wanted one, else the one with the fewest rows, who has the
    most to lose.

    Args:
      plan: a :class:`fedcore.plan.RunPlan`, with what people decided.
      wanted: client id, or empty.
    """
    held = plan.federation.clients
    return wanted or min(plan.asked(1), key=lambda each: (held[each].sizes["train"], each))


def attacked_client(plan: Any, rows: Split, name: str) -> AttackedClient:
    """A client of a planned run, with everything that its training jobs say.

    Args:
      plan: a :class:`fedcore.plan.RunPlan`.
      rows: its training split (``plan.federation.load``).
      name: client id; the rounds are those it would take part in, or all of them.

    Raises:
      ValueError: groups of persons have budgets of their own.
    """
    config, rounds = plan.config, []
    if promises_groups(config):
        raise ValueError(PROMISES_GROUPS)
    for number in range(1, config.rounds.count + 1):
        (job,) = plan.train_jobs(number, plan.initial.params, (name,))
        settings = job.settings
        weights = settings["class_weights"]
        rounds.append(
            ClientRound(
                config.training,
                settings["learning_rate"],
                _noise_of(settings["privacy"]),
                settings["drift"],
                weights and tuple(weights),
                tuple(settings["assignment"]["parts"]),
            )
        )
    return AttackedClient(
        name,
        rows,
        plan.task,
        config.model,
        preprocess_from_json(plan.preprocess),
        tuple(rounds),
        config.seed,
    )


def _noise_of(private: Mapping[str, Any] | None) -> ExampleNoise | UpdateNoise | None:
    """What a job's private settings say (:func:`fedcore.privacy.private_job.private_settings`)."""
    if private is None:
        return None
    kind = {"example": ExampleNoise, "local": UpdateNoise}[private["kind"]]
    return kind(**{each.name: private[each.name] for each in fields(kind) if each.name in private})
