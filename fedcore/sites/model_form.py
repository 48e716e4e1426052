"""The form of a run's base models, as a site knows it from its own plan: that of the first model,
and what the rule for adapters changes of it in the course of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.adapters.layers import layers_of
from fedcore.adapters.server import AdapterRound
from fedcore.sites.wire_tensors import Template, claimed_shapes, decode_exactly, template_of
from fedcore.tensors import Arrays


@dataclass(frozen=True)
class ModelForm:
    """What a base model may look like.

    Attributes:
      largest: with the highest ranks, and all corrections of frozen weights that the rule makes.
      carried: names of these corrections: a model has all of them or none.
      adapts: whether the rule chooses ranks: both factors of a layer then have one from 1 to that
        of ``largest``.
    """

    largest: Template
    carried: frozenset[str] = frozenset()
    adapts: bool = False

    def decoded(self, data: bytes) -> dict[str, np.ndarray]:
        """The tensors of a body that is a base model of this run; views of ``data``.

        Raises:
          Refusal: as :func:`fedcore.sites.wire_tensors.decode_exactly`.
        """
        claimed = claimed_shapes(data, self.largest)
        left_out = frozenset() if self.carried & claimed.keys() else self.carried
        wanted = {name: spec for name, spec in self.largest.items() if name not in left_out}
        if self.adapts:
            wanted |= _at_claimed_ranks(wanted, claimed)
        return decode_exactly(data, wanted)


def model_form(first: Arrays, adapters: AdapterRound | None) -> ModelForm:
    """The form of the models of a run that begins with ``first``.

    Args:
      adapters: how its rounds aggregate adapters; None: there are none.
    """
    if adapters is None:
        return ModelForm(template_of(first))
    largest = adapters.base(first)
    carried = frozenset(largest.keys() - first.keys())
    return ModelForm(template_of(largest), carried, adapters.rule.adapts)


def _at_claimed_ranks(largest: Template, claimed: Mapping[str, Sequence[int]]) -> Template:
    """The factors of those layers whose claimed A has a rank that they may have."""
    found = {}
    for layer in layers_of(largest):
        (kind_a, (highest, inputs)), (kind_b, (outputs, _)) = largest[layer.a], largest[layer.b]
        rank = next(iter(claimed.get(layer.a, ())), 0)
        if 1 <= rank <= highest:
            found[layer.a] = (kind_a, (rank, inputs))
            found[layer.b] = (kind_b, (outputs, rank))
    return found
