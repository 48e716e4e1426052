"""A run's configuration: one section per concern, every choice with its default and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from fedcore.adapters.checks import uncombinable
from fedcore.adapters.settings import AdapterAggregation, Automatic, ClientRanks, SameRank
from fedcore.approvals import ApprovalSettings
from fedcore.attacks.checks import futile_attacks
from fedcore.attacks.settings import AttackSettings, NoAttacks
from fedcore.audit.settings import AuditSettings
from fedcore.config_errors import explain
from fedcore.data.settings import DataSettings, Digits
from fedcore.digests import digest_json
from fedcore.engines.settings import EngineSettings, Local
from fedcore.models.settings import MlpSettings, ModelSettings
from fedcore.models.weights import misplaced
from fedcore.participation import Everybody, ParticipationSettings
from fedcore.partition.settings import Dirichlet, PartitionSettings
from fedcore.privacy.checks import broken_promise
from fedcore.privacy.settings import NoPrivacy, PrivacySettings
from fedcore.settings import Settings
from fedcore.strategies.settings import FedAvg, StrategySettings
from fedcore.strict_yaml import StrictLoader
from fedcore.training.settings import LoopSettings, TrainingSettings

S = TypeVar("S", bound=Settings)


class ConfigError(ValueError):
    """A configuration cannot be used; the message names file, key, value and rule."""


class PreprocessingSettings(Settings):
    """How tables are scaled; images are scaled by their model's processor."""

    standardise: Literal["client", "federation", "none"] = Field(
        "federation",
        description="Tables to zero mean and unit variance by the training rows of each client, of "
        "all clients, or not at all.",
    )


class AggregationSettings(Settings):
    """How updates become one."""

    weighting: Literal["examples", "uniform"] = Field(
        "examples", description="Weight of a client: its number of training examples, or 1."
    )
    adapters: AdapterAggregation = Field(
        default_factory=Automatic,
        description="How low-rank adapters become one; of models without them nothing changes.",
    )
    client_ranks: ClientRanks = Field(
        default_factory=SameRank,
        description="How many directions of the adapters each client trains.",
    )


class RoundSettings(Settings):
    """How many rounds, and when a round stands."""

    count: int = Field(5, ge=1, description="Number of federated rounds.")
    min_clients: int = Field(
        1, ge=1, description="A round with fewer finished clients fails the run."
    )
    exclude_clients: tuple[str, ...] = Field(
        (), description="Clients that are never asked; the partition does not change."
    )
    keep_updates: Literal["all", "last", "none"] = Field(
        "all",
        description="Client updates kept after a round commits; they only save repeated work.",
    )


class EvaluationSettings(Settings):
    """What is measured, and which round's model is taken."""

    every: int = Field(1, ge=1, description="Evaluate after every so many rounds, and the last.")
    splits: tuple[Literal["val", "test"], ...] = Field(
        ("val", "test"), description="Splits measured after rounds; the test split never chooses."
    )
    clients: bool = Field(True, description="Measure each client's own part too.")
    choose: Literal["last", "accuracy", "auc", "balanced_accuracy", "loss", "r2", "perplexity"] = (
        Field(
            "last",
            description="Take the last round's model, or the best one on validation by this.",
        )
    )


class RegistrySettings(Settings):
    """Where the model version goes."""

    register_model: bool = Field(True, description="Register a model version for review.")
    experiment: str = Field("fedloom", min_length=1, description="MLflow experiment.")
    model_name: str = Field(
        "", description="Registered model; fedloom-DATASET when left empty.", max_length=200
    )


class SpeedSettings(Settings):
    """What changes the time and never the result; not part of any key or digest."""

    workers: int = Field(
        2, ge=0, le=256, description="Worker processes; 0 trains in the run's own process."
    )


class RunConfig(Settings):
    """Everything that a federated run needs to know before it starts."""

    version: Literal[1] = 1
    name: str = Field("custom", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Short name.")
    seed: int = Field(0, ge=0, lt=2**63, description="All public randomness comes from it.")
    data: DataSettings = Field(default_factory=Digits)
    partition: PartitionSettings = Field(default_factory=Dirichlet)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    preprocessing: PreprocessingSettings = Field(default_factory=PreprocessingSettings)
    model: ModelSettings = Field(default_factory=MlpSettings)
    training: TrainingSettings = Field(default_factory=LoopSettings)
    privacy: PrivacySettings = Field(default_factory=NoPrivacy)
    strategy: StrategySettings = Field(default_factory=FedAvg)
    participation: ParticipationSettings = Field(default_factory=Everybody)
    aggregation: AggregationSettings = Field(default_factory=AggregationSettings)
    rounds: RoundSettings = Field(default_factory=RoundSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    attacks: AttackSettings = Field(default_factory=NoAttacks)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    approvals: ApprovalSettings = Field(default_factory=ApprovalSettings)
    engine: EngineSettings = Field(default_factory=Local)
    speed: SpeedSettings = Field(default_factory=SpeedSettings)

    @model_validator(mode="after")
    def _rounds_can_stand(self) -> RunConfig:
        """What the sections alone show; the rest is checked once the data are known."""
        clients = getattr(self.partition, "clients", None)
        cohort = getattr(self.participation, "cohort_size", None)
        if clients is not None and cohort is not None and cohort > clients:
            raise ValueError(
                f"participation.cohort_size={cohort} is more than partition.clients={clients}; "
                "lower it or take more clients."
            )
        asked = cohort or clients
        if asked is not None and self.rounds.min_clients > asked:
            raise ValueError(
                f"rounds.min_clients={self.rounds.min_clients} is more than the {asked} clients "
                "that a round asks, so that no round could stand; lower it."
            )
        return self

    @model_validator(mode="after")
    def _what_is_asked_about_happens(self) -> RunConfig:
        if self.approvals.registration and not self.registry.register_model:
            raise ValueError(
                "approvals.registration=true asks before a registration that "
                "registry.register_model=false leaves out; set one of them otherwise."
            )
        if self.approvals.quality and "val" not in self.evaluation.splits:
            raise ValueError(
                f"approvals.quality looks at scores on validation data, which evaluation.splits="
                f"{list(self.evaluation.splits)} does not measure; add val."
            )
        return self

    @model_validator(mode="after")
    def _promise_can_be_kept(self) -> RunConfig:
        if (why := broken_promise(self)) is not None:
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _attacks_can_tell(self) -> RunConfig:
        if (why := futile_attacks(self)) is not None:
            raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _model_can_be_trained(self) -> RunConfig:
        if (why := uncombinable(self) or misplaced(self.model, self.training.device)) is not None:
            raise ValueError(why)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of everything but ``speed``, ``engine``, ``approvals`` and ``attacks``, which by
        themselves change no result: what was decided is in the run's chain."""
        aside = {"speed", "engine", "approvals", "attacks"}
        return digest_json(self.model_dump(mode="json", exclude=aside))

    def to_yaml(self) -> str:
        """The complete configuration as YAML that ``load_config`` takes back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


SECTIONS = tuple(RunConfig.model_fields)


def make_config(
    values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, source: str = "config"
) -> RunConfig:
    """A validated configuration from plain values and overrides by dotted key.

    Args:
      values: sections, as in the YAML files.
      overrides: ``{"training.learning_rate": 0.1}``; each key's section need not be in ``values``.
      source: what the error message names, e.g. the file.

    Raises:
      ConfigError: unknown key, wrong type, value out of bounds or unknown ``kind``; every problem
        on its own line.
    """
    merged = json.loads(json.dumps(values, default=_dumped))
    defaults: dict[str, Any] = {}
    for key in in_order(overrides or {}):
        section = key.partition(".")[0]
        if section not in merged:
            defaults = defaults or RunConfig().model_dump(mode="json")
            merged |= {section: defaults[section]} if section in defaults else {}
        set_value(merged, key, (overrides or {})[key], source)
    return validated(RunConfig, merged, f"{source} is not a valid run configuration")


def validated(settings: type[S], values: Mapping[str, Any], failure: str) -> S:
    """Plain values as settings.

    Raises:
      ConfigError: ``failure``, then every problem on its own line.
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {explain(settings, one)}" for one in error.errors()]
        raise ConfigError("\n".join([f"{failure}:", *lines])) from None


def in_order(keys: Iterable[str]) -> list[str]:
    """Dotted keys in the order in which they are set: a kind first, since it clears the fields of
    another kind, and not those that come with it."""
    return sorted(keys, key=lambda key: (not key.endswith(".kind"), key))


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The configuration in a YAML file, with overrides by dotted key.

    Raises:
      ConfigError: the file is missing, is not YAML, repeats a key, or ``make_config`` refuses it.
    """
    path = Path(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections such as data: and model:, not {values!r}")
    return make_config(values, overrides, source=str(path))


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``["rounds.count=3"]`` as ``{"rounds.count": 3}``; values are read as YAML.

    Raises:
      ConfigError: a pair without ``=``.
    """
    overrides = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {pair!r} must read dotted.key=value, e.g. rounds.count=3.")
        try:
            overrides[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"override {pair!r}: the value is not YAML; quote it, e.g. {key}='\"...\"'."
            ) from error
    return overrides


def set_value(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Sets a value by its dotted key, in place.

    Raises:
      ConfigError: one of the key's parents has no keys below it.
    """
    *parents, last = key.split(".")
    here = values
    for name in parents:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            raise ConfigError(f"override {key!r} of {source}: {name!r} has no keys below it.")
    if last == "kind" and here.get("kind") != value:
        here.clear()  # the fields of another kind would only be refused as unknown
    here[last] = value


def _dumped(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no place in a configuration")
