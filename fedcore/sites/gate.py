"""The one function through which everything leaves a site.

It decides by the site's policy and status, changes what the policy says (clips, adds noise, rounds,
hashes), keeps what it releases before it releases it, and writes each decision to the audit log. A
release is sent again as it was, never computed again. When the log cannot be written, nothing
leaves.

What it does not do: a change of weights that fits the model can still tell about the data. Only
``clip_norm`` with ``noise_stddev`` bounds how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC

from fedcore.digests import canonical_json
from fedcore.sites import releases
from fedcore.sites.audit_entry import Flat
from fedcore.sites.audit_log import START, AuditLog, Cursor, Writer
from fedcore.sites.codes import Code
from fedcore.sites.folder import SiteFolder
from fedcore.sites.outgoing import Asked, Excuse, Outgoing, Preview, Released, Withheld
from fedcore.sites.permission import refused_answer, refused_result
from fedcore.sites.policy import Policy, PolicyError
from fedcore.sites.shaping import Shaped, shape
from fedcore.sites.status import SiteStatus, StatusError, read_status
from fedcore.sites.tally import Tally
from fedcore.store import Store

Check = Callable[[Policy, SiteStatus, Asked], Withheld | None]


@dataclass
class Gate:
    """A site's gate. Policy and status are read anew for each decision.

    Attributes:
      policy: reads the policy; raises PolicyError.
      status: reads the status; raises StatusError.
      log: the site's audit log; rounds are counted from it, by its clock and day in UTC.
      secret: 32 bytes of the site.
      store: the site's own; keeps what was released.
    """

    policy: Callable[[], Policy]
    status: Callable[[], SiteStatus]
    log: AuditLog
    secret: bytes = field(repr=False)
    store: Store
    _tally: Tally = field(default_factory=Tally, init=False, repr=False)
    _read: Cursor = field(default=START, init=False, repr=False)

    def release(self, asked: Asked, value: Outgoing) -> Released | Withheld:
        """What of a value leaves, or why it stays; one entry in the log.

        The code of a :class:`Withheld` may be told by releasing an :class:`Excuse` with it, which
        is withheld too where the run gets no answer at all.

        Raises:
          LogBroken: the log was tampered with; nothing leaves until an administrator has looked.
          OSError: the log or the store cannot be written; nothing left.
        """
        policy, made = self._made(asked, value)
        with self.log.writing() as writer:
            action, decision = self._decide(policy, asked, value, made)
            details = _told(decision)
            if action == "released" and isinstance(made, Shaped):
                details["changes"] = list(made.changes)
            self._log(writer, action, asked, policy, decision.code, details)
        return decision

    def again(self, asked: Asked) -> Released | Withheld | None:
        """What was released for this before, so that the work need not be done again; None when
        nothing was, and then nothing is logged. Raises as :meth:`release` does."""
        policy = self._policy()
        if policy is None or releases.again(self.store, policy, asked) is None:
            return None
        with self.log.writing() as writer:
            refused = self._refused_by(self._refused, policy, asked)
            kept = refused or releases.again(self.store, policy, asked)
            if kept is not None:
                self._log(writer, _sent_again(kept), asked, policy, kept.code, _told(kept))
        return kept

    def preview(self, asked: Asked, value: Outgoing) -> Preview:
        """What would leave of a value, without releasing, keeping or counting it.

        Of several reasons to stay the one in the value itself is told: permission comes later.
        """
        policy, made = self._made(asked, value)
        stays = made if isinstance(made, Withheld) else None
        with self.log.writing() as writer:
            if policy is not None:
                check = refused_answer if isinstance(value, Excuse) else self._refused
                stays = stays or self._refused_by(check, policy, asked)
            self._log(writer, "previewed", asked, policy, stays.code if stays else "", {})
        if isinstance(made, Withheld):
            return Preview((), 0, (), stays)
        return Preview(made.fields, made.bytes, made.changes, stays)

    def _policy(self) -> Policy | None:
        try:
            return self.policy()
        except PolicyError:
            return None

    def _made(self, asked: Asked, value: Outgoing) -> tuple[Policy | None, Shaped | Withheld]:
        policy = self._policy()
        if policy is None:
            return None, _NO_POLICY
        return policy, shape(policy, self.secret, asked, value)

    # -- under the log's lock: no other process answers, and no command changes the status ---------

    def _decide(
        self, policy: Policy | None, asked: Asked, value: Outgoing, made: Shaped | Withheld
    ) -> tuple[str, Released | Withheld]:
        """(the entry's action, the decision)."""
        if policy is None:
            return "withheld", _NO_POLICY
        if isinstance(value, Excuse):
            refused = self._refused_by(refused_answer, policy, asked)
            if refused or isinstance(made, Withheld):
                return "withheld", refused or made  # type: ignore[return-value]
            return "excused", made.released
        if refused := self._refused_by(self._refused, policy, asked):
            return "withheld", refused
        if (kept := releases.again(self.store, policy, asked)) is not None:
            return _sent_again(kept), kept
        if isinstance(made, Withheld):
            return "withheld", made
        return "released", releases.keep(self.store, policy, asked, made)

    def _refused_by(self, check: Check, policy: Policy, asked: Asked) -> Withheld | None:
        try:
            return check(policy, self.status(), asked)
        except StatusError:
            return Withheld(Code.SITE_NOT_READY, "The status file cannot be used.")

    def _refused(self, policy: Policy, status: SiteStatus, asked: Asked) -> Withheld | None:
        """By permission, then by what the log says was answered already."""
        if refused := refused_result(policy, status, asked):
            return refused
        for entry, cursor in self.log.since(self._read):
            self._tally.add(entry)
            self._read = cursor
        today = self.log.clock().astimezone(UTC).date().isoformat()
        if self._tally.rounds_with(asked, today) > policy.rounds_per_day:
            return Withheld(
                Code.TOO_MANY_ROUNDS, f"rounds_per_day={policy.rounds_per_day} are used up today."
            )
        if self._tally.answers_with(asked) > policy.answers_per_round:
            return Withheld(
                Code.TOO_MANY_ANSWERS,
                f"answers_per_round={policy.answers_per_round} of this kind are used up.",
            )
        return None

    def _log(
        self,
        writer: Writer,
        action: str,
        asked: Asked,
        policy: Policy | None,
        code: str,
        details: dict[str, Flat],
    ) -> None:
        rules = policy.digest if policy else ""
        about: dict[str, Flat] = {"round": asked.round, "key": asked.key, "policy": rules}
        writer.append(
            action, run=asked.run, subject=asked.kind, reason=str(code), details=about | details
        )


def open_gate(site: SiteFolder) -> Gate:
    """The gate of a site's folder; raises SiteError when its secret cannot be used."""
    return Gate(
        policy=lambda: site.policy,
        status=lambda: read_status(site.status_file),
        log=site.log,
        secret=site.secret,
        store=site.store,
    )


_NO_POLICY = Withheld(Code.SITE_NOT_READY, "The policy file cannot be used.")


def _sent_again(kept: Released | Withheld) -> str:
    return "resent" if isinstance(kept, Released) else "withheld"


def _told(decision: Released | Withheld) -> dict[str, Flat]:
    """Names and sizes of what leaves, for the log; of what stays, nothing."""
    if isinstance(decision, Withheld):
        return {}
    fields = [f"metrics.{name}" for name in sorted(decision.metrics)]
    fields += [f"facts.{name}" for name in sorted(decision.facts)]
    if decision.num_examples:
        fields.append("num_examples")
    if decision.blob:
        fields.append("delta")
    size = len(canonical_json(decision.to_json() | {"blob": None}).encode())
    return {
        "fields": fields,
        "bytes": size + (decision.blob.size if decision.blob else 0),
        "blob": decision.blob.digest if decision.blob else "",
    }
