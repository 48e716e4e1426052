"""The base models that a site has fetched: the last few of each run stay, others are discarded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.refs import Ref
from fedcore.sites.folder import SiteFolder
from fedcore.store import Store

# That of the round, the one before for whoever is late, and the one after for evaluation. A run
# that is taken up again starts from one of them, and any other is fetched again.
KEPT = 3
_NAME = "models.json"


@dataclass(frozen=True)
class BaseModels:
    """Those of one run, noted in its folder, so that a session after this one discards them too.

    Attributes:
      site: the folder.
      run: id of the run.
    """

    site: SiteFolder
    run: str

    def use(self, base: Ref) -> None:
        """Notes that a model is in the site's store and was used just now."""
        before = self._noted(self.run)
        names = [*(one for one in before if one != base.digest), base.digest]
        if names != before:
            self._keep(names[-KEPT:], before)

    def forget(self) -> None:
        """Discards them all, once the run is over; one that is extended fetches what it needs."""
        if before := self._noted(self.run):
            self._keep([], before)

    def _keep(self, names: list[str], before: list[str]) -> None:
        """Notes first: a model that was noted and is gone is fetched again."""
        Store(self.site.run(self.run)).write(_NAME, json.dumps(names).encode())
        still = {*names, *self._of_others()}
        for digest in before:
            if digest not in still:
                self.site.store.discard(digest)

    def _of_others(self) -> Iterator[str]:
        """Two runs may start from the same model, such as a fork and its parent."""
        for path in (self.site.path / "runs").glob(f"*/{_NAME}"):
            if path.parent.name != self.run:
                yield from self._noted(path.parent.name)

    def _noted(self, run: str) -> list[str]:
        try:
            found = json.loads(Store(self.site.run(run)).read(_NAME))
            return [str(one) for one in found]
        except (FileNotFoundError, ValueError, TypeError):
            return []
