"""Federated fine-tuning: train-federated with a form of texts, images and adapters alone."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from fedcore.approvals import ApprovalSettings
from fedcore.attacks.settings import AttackSettings, NoAttacks
from fedcore.audit.settings import AuditSettings
from fedcore.config import (
    AggregationSettings,
    EvaluationSettings,
    RegistrySettings,
    RoundSettings,
    SpeedSettings,
)
from fedcore.data.scipy_docs import ScipyDocs
from fedcore.engines.settings import EngineSettings, Local
from fedcore.fine_tuning import AdaptedModel, AdaptedText, TextsOrImages
from fedcore.participation import Everybody, ParticipationSettings
from fedcore.partition.settings import Dirichlet, PartitionSettings
from fedcore.privacy.settings import NoPrivacy, PrivacySettings
from fedcore.start import New, StartSettings
from fedcore.strategies.settings import FedAvg, StrategySettings
from fedcore.training.settings import LoopSettings, TrainingSettings
from flows.train_federated import AS_TRAINING, train_federated

# Adapters begin with a product of zero: plain SGD hardly moves them.
ADAMW = LoopSettings(optimizer="adamw", learning_rate=0.001, batch_size=16)


@flow(name="finetune-adapters", **AS_TRAINING)
def finetune_adapters(
    version: int = 1,
    name: str = "custom",
    seed: int = 0,
    data: TextsOrImages = ScipyDocs(),  # noqa: B008 - frozen
    partition: PartitionSettings = Dirichlet(),  # noqa: B008
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    model: AdaptedModel = AdaptedText(),  # noqa: B008
    training: TrainingSettings = ADAMW,
    privacy: PrivacySettings = NoPrivacy(),  # noqa: B008
    strategy: StrategySettings = FedAvg(),  # noqa: B008
    participation: ParticipationSettings = Everybody(),  # noqa: B008
    aggregation: AggregationSettings = AggregationSettings(),  # noqa: B008
    rounds: RoundSettings = RoundSettings(),  # noqa: B008
    evaluation: EvaluationSettings = EvaluationSettings(),  # noqa: B008
    attacks: AttackSettings = NoAttacks(),  # noqa: B008
    registry: RegistrySettings = RegistrySettings(),  # noqa: B008
    approvals: ApprovalSettings = ApprovalSettings(),  # noqa: B008
    engine: EngineSettings = Local(),  # noqa: B008
    speed: SpeedSettings = SpeedSettings(),  # noqa: B008
    overrides: dict[str, Any] | None = None,
    start: StartSettings = New(),  # noqa: B008
    dry_run: bool = False,
) -> dict[str, Any] | State[Any]:
    """Trains adapters of one pretrained model over texts or images that do not move, and leaves a
    version for review in MLflow, with the adapters as PEFT loads them.

    Args:
        version: Of the configuration's format.
        name: Short name of the experiment.
        seed: All public randomness comes from it; the same seed gives the same model.
        data: Where the texts or images come from.
        partition: How training samples are divided among clients.
        audit: What the data is checked for, and what is done about findings.
        model: The pretrained model, and the adapters in it.
        training: How each client trains in a round.
        privacy: What the updates may tell about single records.
        strategy: The federated algorithm.
        participation: Who is asked in each round.
        aggregation: How updates are weighted, and adapters of many clients made into one.
        rounds: How many rounds, and when a round stands.
        evaluation: What is measured, and which round's model is taken.
        attacks: Whether one client is attacked before registration, to test the claimed epsilon.
        registry: Where the model version goes.
        approvals: Where the run waits for a person's decision.
        engine: Where the clients are: here, or at sites of their own.
        speed: Worker processes; never changes a result.
        overrides: Single values by dotted key, applied last, for example
            {"rounds.count": 3, "training.learning_rate": 0.05}.
        start: A new run; or one that goes on with another run, or begins with rounds of it. Then
            the sections above are not used: the other run's are, changed by overrides.
        dry_run: Stop before the first round: audit, partition and plan only.
    """
    return train_federated.fn(**locals())


if __name__ == "__main__":
    finetune_adapters()
