"""What a site lets out: its own file, which nobody else can widen. An empty file lets out nothing.

The coordinator sees neither this file nor its digest; it only hears a reason code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from fedcore.config_errors import explain as explain_error
from fedcore.digests import digest_json
from fedcore.settings import Settings
from fedcore.strict_yaml import StrictLoader

Kind = Literal["train", "evaluate", "audit", "statistics", "prepare"]
# ids and names, with the wildcards of a shell
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?\[\]!-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PolicyError(ValueError):
    """A policy file cannot be used; the message names file, key, value and rule."""


class ByHand(Settings, title="By hand"):
    """A person at the site approves each run: its settings and its program."""

    kind: Literal["by_hand"] = "by_hand"


class ByRule(Settings, title="By rule"):
    """Runs of the programs named here need no person's approval."""

    kind: Literal["by_rule"] = "by_rule"
    code: tuple[Digest, ...] = Field(
        (),
        max_length=64,
        description="Fingerprints of the program versions that somebody at the site has reviewed, "
        "64 hex digits each. A run that was planned by any other version is not answered.",
    )


class Withhold(Settings, title="Withhold"):
    """Quality figures do not leave; then evaluations are not answered at all."""

    kind: Literal["withhold"] = "withhold"


class Rounded(Settings, title="Rounded"):
    """Quality figures leave rounded."""

    kind: Literal["rounded"] = "rounded"
    decimals: int = Field(
        2,
        ge=0,
        le=6,
        strict=True,
        description="Decimal places. 2 turns an accuracy of 0.8734 into 0.87; a figure with many "
        "places on few patients can tell about a single one.",
    )


class Exact(Settings, title="Exact"):
    """Quality figures leave as they were computed."""

    kind: Literal["exact"] = "exact"


Approval = Annotated[ByHand | ByRule, Field(discriminator="kind")]
Metrics = Annotated[Withhold | Rounded | Exact, Field(discriminator="kind")]


class PrivacyBudget(Settings, title="Privacy budget"):
    """How much may be told of any one record: (epsilon, delta), add or remove."""

    epsilon: float = Field(
        gt=0, le=1000, description="The smaller, the less. Above 10 it promises little."
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="Chance that the promise fails; far below 1 / records."
    )


class Policy(Settings):
    """What may leave this site. Everything that is not allowed here stays."""

    version: Literal[1] = Field(1, description="Of this file's format.")
    runs: tuple[Pattern, ...] = Field(
        (),
        max_length=256,
        description="Runs that are answered, by their id; * and ? stand for any characters. "
        "Empty: none.",
    )
    purposes: tuple[Pattern, ...] = Field(
        (),
        max_length=256,
        description="Purposes that data are used for, by the name of the run's configuration "
        "(e.g. heart-disease). Run and purpose must both be allowed. Empty: none.",
    )
    jobs: tuple[Kind, ...] = Field(
        (),
        max_length=5,
        description="Kinds of work whose results may leave: train (changes of a model's weights), "
        "evaluate (quality figures), audit (a description of the data with findings on their "
        "quality), statistics (counts and means), prepare (that the data are laid out). Empty: "
        "none.",
    )
    approval: Approval = Field(
        default_factory=ByHand,
        description="Who approves a run before anything of it leaves: a person at this site each "
        "time, or a rule on the program's version.",
    )
    minimum_examples: int = Field(
        10,
        ge=1,
        le=10**9,
        strict=True,
        description="An update or a quality figure that rests on fewer records stays.",
    )
    minimum_group: int = Field(
        10,
        ge=1,
        le=10**9,
        strict=True,
        description="Smallest group of records in counts and statistics. A table in which any "
        "group has fewer records, but not none, stays as a whole, since a single blank can be "
        "computed from the totals.",
    )
    statistics: tuple[Pattern, ...] = Field(
        (),
        max_length=256,
        description="Names of the statistics that may leave (* and ? as above), e.g. count, mean. "
        "They are listed by `fedloom site preview`. Empty: none.",
    )
    rounds_per_day: int = Field(
        100,
        ge=0,
        le=10**6,
        strict=True,
        description="Rounds, over all runs together, that are answered on one day (UTC). Each "
        "round tells a little more about the same records. Counted from the site's log, so that a "
        "restart does not forget.",
    )
    answers_per_round: int = Field(
        8,
        ge=1,
        le=100,
        strict=True,
        description="Answers of one kind in one round of a run. An honest round asks for one "
        "update and a few evaluations; many questions about the same records add up.",
    )
    max_bytes: int = Field(
        64 * 2**20,
        ge=1,
        le=2**36,
        strict=True,
        description="Largest answer, in bytes: that of the expected model's weights and a little.",
    )
    clip_norm: float | None = Field(
        None,
        ge=1e-6,
        le=1e6,
        strict=True,
        description="Largest L2 norm of a change of weights. Larger changes are scaled down to it "
        "here, which bounds what one answer can carry. Not set: no bound.",
    )
    noise_stddev: float = Field(
        0.0,
        ge=0,
        le=1e6,
        strict=True,
        description="Standard deviation of the random noise that is added here to each weight's "
        "change, from this site's secret, after scaling down. Needs clip_norm. 0: none. How much "
        "protection it gives is for a privacy calculation; this file only enforces it.",
    )
    private_only: bool = Field(
        False,
        strict=True,
        description="Only training that protects each record, with noise from this site's own "
        "secret (privacy.kind example in the run's settings). Other updates stay.",
    )
    privacy_budget: PrivacyBudget | None = Field(
        None,
        description="What all private training together may tell of this site's records. A round "
        "that would tell more is refused. Not set: no bound.",
    )
    metrics: Metrics = Field(
        default_factory=Withhold,
        description="Quality figures (loss, accuracy and the like): withheld, rounded or exact.",
    )
    metric_names: tuple[Name, ...] = Field(
        (
            *("loss", "accuracy", "auc", "balanced_accuracy", "mean_absolute_error"),
            *("perplexity", "r2"),
        ),
        max_length=32,
        description="Quality figures that may leave, by name. An answer with any other stays.",
    )
    identifiers: Literal["hashed", "plain"] = Field(
        "hashed",
        description="Names of records or files in statistics: replaced by a fingerprint under a "
        "key that only this site has and that differs from run to run, or as they are.",
    )
    logs_to_api: bool = Field(
        False,
        strict=True,
        description="Send this site's log messages to the coordinator's console. They may quote "
        "data or names of files: leave it off unless somebody checks them.",
    )

    @model_validator(mode="after")
    def _noise_has_a_bound(self) -> Policy:
        if self.noise_stddev > 0 and self.clip_norm is None:
            raise ValueError(
                f"noise_stddev={self.noise_stddev} hides nothing while a change of weights can be "
                "of any size: set clip_norm too."
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the policy; the audit log names by it which rules a decision followed."""
        return digest_json(self.model_dump(mode="json"))


def load_policy(path: str | Path) -> Policy:
    """The policy in a YAML file; an empty file is the policy that lets out nothing.

    Raises:
      PolicyError: the file is missing, is not YAML, repeats a key, or a value is against its rule.
    """
    path = Path(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} is not valid YAML: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise PolicyError(f"{path} must hold keys such as runs: and jobs:, not {values!r}.")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        lines = [f"  {explain_error(Policy, one)}" for one in error.errors()]
        raise PolicyError("\n".join([f"{path} is not a valid policy:", *lines])) from None
