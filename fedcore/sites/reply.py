"""What a site answers to an announcement: the one schema, and its strict reader."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedcore.refs import Ref
from fedcore.sites.refusal import Reason, Refusal

MOST_METRICS = 32
METRIC = re.compile(r"[a-z][a-z0-9_]{0,47}")
CODE = re.compile(r"[a-z][a-z0-9_]{0,47}")
DIGEST = re.compile(r"[0-9a-f]{64}")

Status = Literal["done", "refused", "failed"]


@dataclass(frozen=True)
class Reply:
    """A site's answer.

    Attributes:
      key: of what was announced.
      attempt: which of the announcements of the same thing is answered.
      status: ``done``, or ``refused`` and ``failed`` with a reason code.
      code: of the reason; never free text.
      base: digest of the model that an update started from.
      num_examples: samples used.
      metrics: few finite numbers.
      sealed: an update or facts as they lie in the mailbox, for the coordinator only.
      plain: the same once unsealed: safetensors or canonical JSON.
      seconds: what the work took.
    """

    key: str
    status: Status
    attempt: int = 0
    code: str = ""
    base: str = ""
    num_examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    sealed: Ref | None = None
    plain: Ref | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The content of a reply's envelope."""
        return {
            "key": self.key,
            "status": self.status,
            "attempt": self.attempt,
            "code": self.code,
            "base": self.base,
            "num_examples": self.num_examples,
            "metrics": dict(self.metrics),
            "sealed": _ref_json(self.sealed),
            "plain": _ref_json(self.plain),
            "seconds": self.seconds,
        }


def read_reply(content: Mapping[str, Any]) -> Reply:
    """The reply in an envelope's content, every field of its type and within its bounds.

    Raises:
      Refusal: ``schema``, ``examples`` or ``metrics``, with the field.
    """
    if set(content) != set(Reply.__dataclass_fields__):
        raise Refusal(Reason.SCHEMA, "reply")
    _require(_matches(content["key"], DIGEST), Reason.SCHEMA, "key")
    _require(_is_count(content["attempt"]), Reason.SCHEMA, "attempt")
    _require(content["status"] in ("done", "refused", "failed"), Reason.SCHEMA, "status")
    has_code = content["status"] != "done"
    code = content["code"]
    _require(_matches(code, CODE) if has_code else code == "", Reason.SCHEMA, "code")
    _require(content["base"] == "" or _matches(content["base"], DIGEST), Reason.SCHEMA, "base")
    _require(_is_count(content["num_examples"]), Reason.EXAMPLES, "num_examples")
    _require(_is_number(content["seconds"]) and content["seconds"] >= 0, Reason.SCHEMA, "seconds")
    metrics = content["metrics"]
    _require(isinstance(metrics, dict) and len(metrics) <= MOST_METRICS, Reason.METRICS, "metrics")
    for name, value in metrics.items():
        _require(_matches(name, METRIC) and _is_number(value), Reason.METRICS, "metrics")
    refs = {name: _read_ref(content[name], name) for name in ("sealed", "plain")}
    return Reply(**{**content, **refs, "seconds": float(content["seconds"])})


def _read_ref(value: Any, name: str) -> Ref | None:
    if value is None:
        return None
    is_ref = isinstance(value, dict) and set(value) == {"digest", "size"}
    _require(is_ref and _matches(value["digest"], DIGEST), Reason.SCHEMA, name)
    _require(_is_count(value["size"]), Reason.SCHEMA, name)
    return Ref(value["digest"], value["size"], name)


def _ref_json(ref: Ref | None) -> dict[str, Any] | None:
    return None if ref is None else {"digest": ref.digest, "size": ref.size}


def _require(holds: bool, reason: Reason, what: str) -> None:
    if not holds:
        raise Refusal(reason, what)


def _matches(text: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
