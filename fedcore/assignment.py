"""What a client is asked to train of the global model: which parts, at which rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedcore.adapters.ranks import cut_all
from fedcore.adapters.scaling import Scaling
from fedcore.models.parts import PARTS, part_of
from fedcore.tensors import Arrays


@dataclass(frozen=True)
class Assignment:
    """One client's part in a round.

    Attributes:
      parts: of :data:`fedcore.models.parts.PARTS`, sorted; the rest stays as it is.
      rank: of the client's adapters; None: that of the global model's.
      scaling: of the adapters; None: the model has none.
    """

    parts: tuple[str, ...] = PARTS
    rank: int | None = None
    scaling: Scaling | None = None

    def start(self, params: Arrays) -> Arrays:
        """The model that the client starts from: ``params``, their adapters cut to its rank."""
        if self.rank is None or self.scaling is None:
            return params
        return cut_all(params, self.rank, self.scaling)

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
        scaling = value["scaling"]
        return Assignment(
            tuple(value["parts"]), value["rank"], None if scaling is None else Scaling(**scaling)
        )
