"""What a client is asked to train of the global model: which parts, at which rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fedcore.adapters.choice import AdapterShape, adapter_of, rule_of
from fedcore.adapters.ranks import cut
from fedcore.models.parts import PARTS, part_of
from fedcore.tensors import Arrays

if TYPE_CHECKING:
    from fedcore.config import RunConfig


@dataclass(frozen=True)
class Assignment:
    """One client's part in a round.

    Attributes:
      parts: of :data:`fedcore.models.parts.PARTS`, sorted; the rest stays as it is.
      rank: of the client's adapters; None: that of the global model's.
      adapter: JSON of the adapters' shape, by which their scaling follows from a rank; None: there
        are none.
    """

    parts: tuple[str, ...] = PARTS
    rank: int | None = None
    adapter: Mapping[str, Any] | None = None

    def start(self, params: Arrays) -> Arrays:
        """The model that the client starts from: ``params``, their adapters cut to its rank."""
        if self.rank is None or self.adapter is None:
            return params
        return cut(params, self.rank, AdapterShape.model_validate(self.adapter).scaling)

    def expected(self, params: Arrays) -> Arrays:
        """Of :meth:`start` what the client trains: its delta has these names, shapes and dtypes.

        What is carried only (a residual) is in no part, and so never in a delta.
        """
        start = self.start(params)
        return {name: value for name, value in start.items() if part_of(name) in self.parts}

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return asdict(self) | {"parts": list(self.parts)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Assignment:
        """The assignment that ``to_json`` described."""
        return Assignment(tuple(value["parts"]), value["rank"], value["adapter"])


def assignment(config: RunConfig, round: int, rank: int | None = None) -> Assignment:
    """What a round trains: the head alone in the first ``training.head_rounds``, then all that the
    model trains but the factors that the rule for adapters leaves alone.

    Args:
      round: from 1. The rule counts from the first round after those of the head.
      rank: of the client; None: the global model's.
    """
    adapter, rule, head = adapter_of(config.model), rule_of(config), config.training.head_rounds
    shape = None if adapter is None else adapter.model_dump(mode="json")
    if round <= head:
        return Assignment(("head",), rank, shape)
    if rule is None:
        return Assignment()
    parts = {"body", "head", *(str(part) for part in rule.trains(round - head))}
    return Assignment(tuple(sorted(parts)), rank, shape)
