"""Where a forked run came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedcore.refs import Ref


@dataclass(frozen=True)
class Origin:
    """The run whose first rounds a fork begins with.

    Attributes:
      run: id of the parent's chain.
      round: how many of its rounds are shared; 0 shares only data and first model.
      record: digest of that round's record in the parent's chain (of its header for round 0).
      config, code: digests that the parent ran with.
      state: the server optimizer's state that the next round starts from.
      parent: where the parent itself came from, if it was a fork.
    """

    run: str
    round: int
    record: str
    config: str
    code: str
    state: Ref | None = None
    parent: Origin | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value that ``from_json`` takes back."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Origin:
        """The origin that ``to_json`` described."""
        state, parent = value["state"], value["parent"]
        return Origin(
            **{
                **value,
                "state": Ref(**state) if state else None,
                "parent": Origin.from_json(parent) if parent else None,
            }
        )

    def __str__(self) -> str:
        kept = f"rounds 1 to {self.round}" if self.round else "the data and first model"
        return f"{kept} of run {self.run} (record {self.record[:12]})"

    def ancestors(self) -> Iterator[Origin]:
        """This one, its own origin, and so on."""
        here: Origin | None = self
        while here is not None:
            yield here
            here = here.parent
