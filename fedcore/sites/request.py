"""What the coordinator asks of a site before the rounds, as the site reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.config import ConfigError, RunConfig, make_config
from fedcore.sites.inquiry import (
    Inquiry,
    Preparation,
    read_inquiry,
    read_preparation,
)
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import DIGEST
from fedcore.sites.wanted import StatisticsInquiry, read_statistics_inquiry

# Weights from a hub by their name there; never a path on the site's machine.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
MOST_LABELS = 10_000
About = Inquiry | Preparation | StatisticsInquiry
_FIELDS = {Inquiry: "inquiry", Preparation: "preparation", StatisticsInquiry: "statistics"}


@dataclass(frozen=True)
class Request:
    """What is to be approved, and what it asks for now.

    Attributes:
      config: of the run; its digest is the plan that a person at the site approves. Where the data
        are is the site's own business.
      code: digest of the coordinator's sources.
      about: the data are to be described, counted, or laid out.
      class_weights: of the federation, for training.
    """

    config: RunConfig
    code: str
    about: About
    class_weights: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`read_request` takes back."""
        return {
            "config": self.config.model_dump(mode="json", exclude={"speed", "engine"}),
            "code": self.code,
            _FIELDS[type(self.about)]: self.about.to_json(),
            "class_weights": self.class_weights and list(self.class_weights),
        }


def read_request(facts: Mapping[str, Any]) -> Request:
    """The request in an announcement, every field of its type and within its bounds.

    Raises:
      Refusal: ``schema``, with the field.
    """
    about = facts.keys() - {"config", "code", "class_weights"}
    if len(facts) != 4 or about not in [{name} for name in _FIELDS.values()]:
        raise Refusal(Reason.SCHEMA, "facts")
    try:
        config = make_config(facts["config"], source="the coordinator's configuration")
    except ConfigError as error:
        raise Refusal(Reason.SCHEMA, "config") from error
    name = getattr(config.model, "name", None)
    if config.model.kind == "transformer" and not HUB_NAME.fullmatch(str(name)):
        raise Refusal(Reason.SCHEMA, "model")
    if not isinstance(facts["code"], str) or not DIGEST.fullmatch(facts["code"]):
        raise Refusal(Reason.SCHEMA, "code")
    return Request(config, facts["code"], _about(config, facts), _weights(facts["class_weights"]))


def _about(config: RunConfig, facts: Mapping[str, Any]) -> About:
    found: About
    if "inquiry" in facts:
        found = read_inquiry(facts["inquiry"])
    elif "preparation" in facts:
        found = read_preparation(facts["preparation"])
    else:
        found = read_statistics_inquiry(facts["statistics"])
    inquiry = found if isinstance(found, Inquiry) else found.inquiry
    # The person at the site approves the configuration: nothing else may be asked.
    scope = config.preprocessing.standardise
    if (inquiry.audit, inquiry.standardise) != (config.audit, scope):
        raise Refusal(Reason.SCHEMA, "inquiry")
    return found


def _weights(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    is_list = isinstance(value, list) and len(value) <= MOST_LABELS
    if not is_list or not all(isinstance(one, float) and one >= 0 for one in value):
        raise Refusal(Reason.SCHEMA, "class_weights")
    return tuple(value)
