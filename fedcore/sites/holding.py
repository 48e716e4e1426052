"""A site's samples in its own store, found by the names that a plan has for them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from fedcore.data.dataset import Dataset
from fedcore.digests import canonical_json
from fedcore.federation import CENTRAL, Holding, hold, scaled_inputs
from fedcore.models.preprocess import TablePreprocess
from fedcore.moments import moments, standardiser
from fedcore.partition.partition import Partition
from fedcore.refs import Ref
from fedcore.sites.description import data_names, shard_name
from fedcore.sites.inquiry import Preparation, Scaling
from fedcore.sites.local_rows import local_rows
from fedcore.store import Store

_NAME = re.compile(r"[0-9a-f]{64}")


class NotHeld(LookupError):
    """The site has prepared no samples of that name."""


@dataclass(frozen=True)
class Shelf:
    """What a site has prepared: a name that the coordinator knows -> a shard of its own store.

    One small file for each name, so that sessions of several runs can write at once.

    Attributes:
      store: the site's own.
    """

    store: Store

    def put(self, name: str, ref: Ref) -> None:
        """Notes what a name stands for.

        Raises:
          ValueError: it is no name.
        """
        text = canonical_json({"digest": ref.digest, "size": ref.size, "kind": ref.kind})
        self.store.write(self._file(name), text.encode())

    def resolve(self, name: str) -> Ref:
        """The shard of a name that a job has in place of a digest.

        Raises:
          NotHeld: nothing of that name was prepared here.
          ValueError: it is no name; nothing outside the shelf is ever looked at.
        """
        try:
            return Ref(**json.loads(self.store.read(self._file(name))))
        except FileNotFoundError:
            raise NotHeld(
                f"no data named {name[:12]}... were prepared here; prepare them again: their rows, "
                "their scaling or the site's secret are not those of the run's plan."
            ) from None

    def _file(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"data name of {len(name)} characters: it needs 64 hex digits.")
        return f"shelf/{name}.json"


def prepare_data(
    dataset: Dataset, client: str, preparation: Preparation, *, secret: bytes, shelf: Shelf
) -> Holding:
    """Scales a site's samples and puts them into its store.

    Args:
      client: id of the site in the run.
      secret: of the site, that named the data in its description.

    Returns:
      what it holds, its blobs under the names that the plan has.

    Raises:
      ValueError: a scaling that does not fit the rows, or as
        :func:`fedcore.sites.local_rows.local_rows`.
    """
    partition = local_rows(dataset, client, preparation.inquiry).partition
    how = _scaling(dataset, partition, client, preparation.scaling)
    scaling = {} if how is None else {client: how, CENTRAL: how}
    scaled = {
        split: scaled_inputs(dataset.splits[split].inputs, held, scaling)
        for split, held in partition.indices.items()
    }
    held_here = hold(dataset, partition, client, shelf.store, scaled)
    kept = {split: held[client] for split, held in partition.indices.items()}
    names = {
        split: shard_name(name, preparation.scaling)
        for split, name in data_names(dataset, kept, secret).items()
    }
    for split, name in names.items():
        shelf.put(name, held_here.blobs[split])
    return replace(held_here, blobs={split: Ref(name, 0, "shard") for split, name in names.items()})


def _scaling(
    dataset: Dataset, partition: Partition, client: str, answer: Scaling
) -> TablePreprocess | None:
    if (dataset.kind == "table") == (answer is None):
        raise ValueError(
            f"scaling={answer!r} is not for {dataset.kind}s; the plan is of other data."
        )
    if answer != "own":
        return answer
    return standardiser(moments(dataset.splits["train"].inputs[partition.indices["train"][client]]))
