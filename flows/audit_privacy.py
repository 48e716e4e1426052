"""The privacy audit of a run's configuration: what do attacks on one of its clients find?"""

from __future__ import annotations

from typing import Any

from prefect import flow

from fedcore.attacks.settings import PrivacyAuditSettings
from fedcore.attacks.verdict import ClaimRefuted
from fedcore.audit.settings import AuditSettings
from fedcore.config import PreprocessingSettings, RoundSettings, RunConfig, make_config
from fedcore.data.settings import DataSettings, Digits
from fedcore.models.settings import MlpSettings, ModelSettings
from fedcore.partition.settings import Dirichlet, PartitionSettings
from fedcore.privacy.settings import NoPrivacy, PrivacySettings
from fedcore.strategies.settings import FedAvg, StrategySettings
from fedcore.training.settings import LoopSettings, TrainingSettings
from tasks.audit import audit_dataset
from tasks.data import data_of_run, load_data
from tasks.privacy_audit import attack_plan, plan_attacks, planned


def run_name() -> str:
    """After the data set, as the operator reads it in lists of runs."""
    return f"audit privacy of {data_of_run()}"


@flow(name="audit-privacy", flow_run_name=run_name)
def audit_privacy(
    seed: int = 0,
    data: DataSettings = Digits(),  # noqa: B008 - frozen
    partition: PartitionSettings = Dirichlet(),  # noqa: B008
    audit: AuditSettings = AuditSettings(),  # noqa: B008
    preprocessing: PreprocessingSettings = PreprocessingSettings(),  # noqa: B008
    model: ModelSettings = MlpSettings(),  # noqa: B008
    training: TrainingSettings = LoopSettings(),  # noqa: B008
    privacy: PrivacySettings = NoPrivacy(),  # noqa: B008
    strategy: StrategySettings = FedAvg(),  # noqa: B008
    rounds: RoundSettings = RoundSettings(),  # noqa: B008
    attacks: PrivacyAuditSettings = PrivacyAuditSettings(),  # noqa: B008
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Attacks one client of a configuration and says PASS or FAIL on the epsilon it claims.

    Trains that client alone, some dozen times; releases nothing. Returns what was found as JSON;
    fails with the verdict when the lower bound on epsilon lies above the claim.

    Args:
        seed: All public randomness comes from it.
        data: Where the samples come from.
        partition: How training samples are divided among clients.
        audit: What the data is checked for, and what is done about findings.
        preprocessing: How tables are scaled.
        model: What is trained.
        training: How each client trains in a round.
        privacy: What is promised of single records: the claim that is attacked.
        strategy: The federated algorithm.
        rounds: How many rounds.
        attacks: What is tried, and how hard.
        overrides: Single values by dotted key, applied last, for example
            {"rounds.count": 3, "training.learning_rate": 0.05}.
    """
    given = locals()
    sections = {name: given[name] for name in RunConfig.model_fields if name in given}
    config = make_config(sections, overrides, source="the flow's parameters")
    dataset = load_data(config)
    audited = audit_dataset(dataset, config.audit)
    plan = planned(plan_attacks(config, dataset, audited))
    found = attack_plan(plan, lambda name, attack: attack())
    if not found.verdict.passed:
        raise ClaimRefuted(str(found.verdict))
    return dict(found.json)


if __name__ == "__main__":
    audit_privacy()
