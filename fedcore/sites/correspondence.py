"""The coordinator's side of the lane to one site in one run: asks, and looks for answers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from fedcore.refs import Ref
from fedcore.sites.announcement import Announcement
from fedcore.sites.envelope import MOST_BYTES, Envelope
from fedcore.sites.identity import Identity
from fedcore.sites.mailbox import Lane, Mailbox
from fedcore.sites.registry import RegisteredSite


@dataclass
class Correspondence:
    """Announcements are numbered from 1; the site takes them in order.

    Attributes:
      mailbox: as the coordinator sees it.
      coordinator: whose keys sign.
      site: the other end.
      run: id of the run.
      opening: how often the run was taken up, from 1.
      announced: number of the last announcement that is known to be there.
    """

    mailbox: Mailbox
    coordinator: Identity
    site: RegisteredSite
    run: str
    opening: int = 1
    announced: int = 0
    _asked: set[tuple[str, int]] = field(default_factory=set)

    def announce(self, announcement: Announcement) -> None:
        """Leaves an announcement under the next free number; the same one is not left twice.

        A coordinator that was started again asks anew: a site answers what it has answered before
        with the same bytes.
        """
        asked = (announcement.key, announcement.attempt)
        if asked in self._asked:
            return
        data = Envelope(
            "announcement",
            self.coordinator.name,
            self.site.name,
            self.run,
            announcement.to_json(),
        ).signed_by(self.coordinator)
        if len(data) > MOST_BYTES:
            raise ValueError(f"an announcement of {len(data)} bytes; at most {MOST_BYTES} travel.")
        while not self.mailbox.post(self.lane.announcement(self.announced + 1), data):
            self.announced = max(self.announced + 1, self._last())
        self.announced += 1
        self._asked.add(asked)

    def answer(self, key: str, attempt: int = 0) -> bytes | None:
        """The bytes of the answer to what was asked under the key, or None: not there yet.

        Raises:
          Refusal: ``too_large``.
        """
        return self.mailbox.read(self.lane.reply(key, attempt), MOST_BYTES)

    def fetch(self, ref: Ref) -> bytes:
        """A blob that the site left; no more than its claimed size is read.

        Raises:
          Refusal: ``missing_blob``, ``too_large`` or ``altered_blob``.
        """
        return self.mailbox.read_blob(self.lane.outbox, ref)

    def place_of(self, ref: Ref) -> str:
        """Name of a blob that the site left."""
        return f"{self.lane.outbox}/{ref.digest}"

    def _last(self) -> int:
        """Number of the last announcement that is there, by few looks: there is none missing
        before it."""

        def is_free(number: int) -> bool:
            return not self.mailbox.holds(self.lane.announcement(number))

        free = 1
        while not is_free(free):
            free *= 2
        return bisect_left(range(1, free), True, lo=free // 2, key=is_free)

    def take_out(self, key: str, attempt: int = 0) -> None:
        """Removes the answer to what was asked under the key."""
        self.mailbox.remove(self.lane.reply(key, attempt))

    @property
    def lane(self) -> Lane:
        """The names that both ends derive."""
        if not hasattr(self, "_lane"):
            self._lane = Lane.between(
                self.coordinator,
                self.site.identity,
                site=self.site.name,
                run=self.run,
                opening=self.opening,
            )
        return self._lane
