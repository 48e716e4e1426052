"""A site's part in one run: it takes announcements in order, works from the plan that it has
approved, and leaves answers. It only ever reads and writes at the mailbox; nobody calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fedcore.sites.announcement import Announcement, Ask, read_announcement
from fedcore.sites.envelope import MOST_BYTES, Envelope, open_envelope
from fedcore.sites.identity import Identity, PublicIdentity
from fedcore.sites.mailbox import Lane, Mailbox
from fedcore.sites.refusal import Reason, Refusal
from fedcore.sites.reply import Reply

# Every so many looks it is looked further: for the one after the next, and for two that came out
# of order. In order they come on every store that keeps S3's promises.
WIDELY, WINDOW = 4, 3


@dataclass
class Inbox:
    """The announcements of one run, as the site reads them.

    Attributes:
      mailbox: as the site sees it.
      site: whose keys answer.
      coordinator: the only party that is listened to.
      run: id of the run.
      opening: how often the run was taken up, from 1.
      refused: told of announcements that are not of the coordinator's making.
    """

    mailbox: Mailbox
    site: Identity
    coordinator: PublicIdentity
    run: str
    opening: int = 1
    refused: Callable[[Refusal], None] = lambda refusal: None
    _read: set[int] = field(default_factory=set)
    _looks: int = 0
    _ahead: list[Announcement] = field(default_factory=list)

    @property
    def lane(self) -> Lane:
        """The names that both ends derive."""
        if not hasattr(self, "_lane"):
            self._lane = Lane.between(
                self.site,
                self.coordinator,
                site=self.site.name,
                run=self.run,
                opening=self.opening,
            )
        return self._lane

    def take(self) -> Announcement | None:
        """The next announcement that is still of use, or None: nothing new.

        A site that was away finds the rounds that it has missed: all but the newest are passed
        over. An announcement that is refused is passed over too, and told.
        """
        while new := self._read_new():
            self._ahead += new
        newest = max((one.round for one in self._ahead), default=0)
        while self._ahead:
            first = self._ahead.pop(0)
            is_job = first.ask in (Ask.TRAIN, Ask.EVALUATE)
            if not is_job or first.round == newest:
                return first
        return None

    def has_answered(self, said: Announcement) -> bool:
        """Whether the answer to this announcement is in the mailbox already."""
        return self.mailbox.holds(self.lane.reply(said.key, said.attempt))

    def answer(self, reply: Reply) -> bytes:
        """Leaves an answer once; returns the bytes, to be left again as they are."""
        data = Envelope(
            "reply", self.site.name, self.coordinator.name, self.run, reply.to_json()
        ).signed_by(self.site)
        self.mailbox.post(self.lane.reply(reply.key, reply.attempt), data)
        return data

    def _read_new(self) -> list[Announcement]:
        """Announcements that were not there before. One may be there before the one before it."""
        last, new = max(self._read, default=0), []
        numbers, self._looks = [last + 1], self._looks + 1
        if self._looks % WIDELY == 0:
            numbers = sorted({*range(1, last + 3)} - self._read)[:WINDOW]
        for number in numbers:
            try:
                data = self.mailbox.read(self.lane.announcement(number), MOST_BYTES)
                if data is None:
                    continue
                self._read.add(number)
                new.append(self._opened(data))
            except Refusal as refusal:
                self._read.add(number)
                self.refused(refusal)
        return new

    def _opened(self, data: bytes) -> Announcement:
        envelope = open_envelope(
            data, sender=self.coordinator, recipient=self.site.name, run=self.run
        )
        if envelope.kind != "announcement":
            raise Refusal(Reason.SCHEMA, "kind")
        return read_announcement(envelope.content)
