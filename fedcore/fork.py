"""A run that begins with the finished rounds of another one; nothing of them is done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from fedcore.chain import Chain, ChainBroken, RoundRecord, RunTakenOver
from fedcore.config import RunConfig, make_config
from fedcore.config_and_data import check_settings
from fedcore.decisions import Decision, Verdict
from fedcore.digests import digest_json
from fedcore.fork_adapters import untaken
from fedcore.numerics import code_digest, numerics
from fedcore.origin import Origin
from fedcore.plan import RunPlan
from fedcore.privacy.client_round import STATE
from fedcore.questions import REGISTRATION
from fedcore.refs import Ref
from fedcore.store import BlobAltered, BlobMissing, Store
from fedcore.training.device import available_devices, choose_device

T = TypeVar("T")

FIXED = {
    "seed": "it decided the partition and the first model",
    "data": "the clients' shares were made of it",
    "partition": "it made the clients' shares",
    "audit": "it decided which samples were left out",
    "preprocessing": "the clients' shares were scaled by it",
    "model": "the finished rounds trained it",
}
NOTES = ("audit", "partition-audit", "partition", "sites", "descriptions")


class ForkRefused(ValueError):
    """A run cannot begin like this; the message names the value, the rule and the way out."""


def extend(
    store: Store,
    parent: str,
    rounds: int,
    run_id: str,
    changes: Mapping[str, Any] | None = None,
) -> tuple[RunPlan, Chain]:
    """A fork after the parent's last committed round, with more rounds.

    Args:
      rounds: how many there shall be in all.
      changes, and what is raised: as ``fork``; and ``rounds`` not more than the parent has.
    """
    chain = Chain(store, parent)
    wanted = more_rounds(RunPlan.from_header(chain.header()).config, parent, rounds)
    done = sum(1 for _ in chain.records())
    return fork(store, parent, done, {**(changes or {}), **wanted}, run_id)


def more_rounds(config: RunConfig, parent: str, rounds: int) -> dict[str, int]:
    """The change that extends a run.

    Raises:
      ForkRefused: it has as many rounds already.
    """
    if rounds <= config.rounds.count:
        raise ForkRefused(
            f"rounds={rounds} is not more than the {config.rounds.count} rounds of run {parent}; "
            "name how many there shall be in all."
        )
    return {"rounds.count": rounds}


def fork(
    store: Store, parent: str, at_round: int, changes: Mapping[str, Any], run_id: str
) -> tuple[RunPlan, Chain]:
    """A new run whose first rounds are those of another, as they are recorded there.

    Its chain has the parent's records, linked to its own header, and the decisions that were taken
    until then (but none that stopped the parent). Changes hold from the next round on. A server
    optimizer that keeps other values than the parent's starts anew. The header comes last: a call
    that was cut off is completed by the next one. The parent is only read.

    Args:
      parent: id of a run in the store.
      at_round: how many of its rounds are shared; 0 shares data, partition and first model.
      changes: by dotted key, ``{"training.learning_rate": 0.01}``.
      run_id: of the new run.

    Raises:
      LookupError: there is no such parent.
      ChainBroken: the parent's history was altered, or ``run_id`` is another run.
      ForkRefused: a round that is not there, or a change of what the finished rounds rest on.
      ConfigError: a change that is no valid configuration.
      ValueError: settings that cannot work on this data.
    """
    source = Chain(store, parent)
    header, records, decisions = source.header(), tuple(source.records()), source.decisions()
    check_round(parent, len(records), at_round)
    before = RunPlan.from_header(header)
    config = changed(before.config, changes, at_round)
    plan, warnings = _plan(store, before, config, records[:at_round], parent, digest_json(header))
    chain = Chain(store, run_id)
    for name in NOTES:
        if (note := source.annotation(name)) is not None:
            chain.annotate(name, note)
    chain.annotate("warnings", [*warnings, *plan.warnings])
    _relink(chain, digest_json(plan.header()), records[:at_round], decisions)
    chain.begin(plan.header())
    begun = sum(1 for _ in chain.records())
    if begun < at_round:
        raise ChainBroken(f"run {run_id} holds {begun} of the {at_round} rounds that it shares.")
    return plan.after(chain.decisions()), chain


def check_round(parent: str, done: int, at_round: int) -> None:
    """Refuses a round that the parent has not committed (ForkRefused)."""
    if not 0 <= at_round <= done:
        raise ForkRefused(
            f"at_round={at_round}, but run {parent} has {done} committed rounds; name one from 0 "
            f"to {done}."
        )


def changed(config: RunConfig, changes: Mapping[str, Any], at_round: int) -> RunConfig:
    """The configuration of a fork.

    Raises:
      ConfigError: it is not a valid one.
      ForkRefused: a change of what the finished rounds rest on.
    """
    after = make_config(config.model_dump(mode="json"), changes, source="the fork's configuration")
    values, kept = after.model_dump(mode="json"), config.model_dump(mode="json")
    for section, why in FIXED.items():
        if values[section] == kept[section]:
            continue
        now, then = _first_difference(section, values[section], kept[section])
        raise ForkRefused(
            f"{now[0]}={now[1]!r} cannot change in a fork (it is {then!r}): {why}. Start a new run "
            "with it: client work that still applies is reused."
        )
    if after.rounds.count < at_round:
        raise ForkRefused(
            f"rounds.count={after.rounds.count} is fewer than the {at_round} rounds that are "
            "shared; fork at an earlier round, or name more rounds."
        )
    return after


def _first_difference(key: str, now: Any, then: Any) -> tuple[tuple[str, Any], Any]:
    if isinstance(now, dict) and isinstance(then, dict):
        for name in (*now, *then):
            if now.get(name) != then.get(name):
                return _first_difference(f"{key}.{name}", now.get(name), then.get(name))
    return (key, now), then


def _plan(
    store: Store,
    before: RunPlan,
    config: RunConfig,
    shared: tuple[RoundRecord, ...],
    parent: str,
    header_digest: str,
) -> tuple[RunPlan, list[str]]:
    federation, identity = before.federation, before.identity
    splits = {"train", *federation.central}
    splits |= {split for holding in federation.clients.values() for split in holding.blobs}
    kind = str(before.features["kind"])
    check_settings(config, identity["dataset"], before.task, federation.ids, splits, kind)
    if config.model.identity() != identity["model"]:
        raise ForkRefused(
            "the model's own files or sources have changed since the finished rounds trained it; "
            "start a new run with them."
        )
    device, warning = choose_device(config.training.device, available_devices())
    last = shared[-1] if shared else None
    start = (
        before.model_after(last.round, last.model, last.state)
        if last is not None
        else before.initial
    )
    state = _state(store, config, start.params, start.state)
    if (why := untaken(store, before, config, start.params)) is not None:
        raise ForkRefused(why)
    origin = Origin(
        run=parent,
        round=len(shared),
        record=last.digest if last is not None else header_digest,
        config=identity["config"],
        code=identity["code"],
        state=state,
        parent=before.origin,
    )
    now = {
        **identity,
        "config": config.digest,
        "code": code_digest(),
        "numerics": numerics(
            device=device, dtype=config.training.dtype, backend=config.training.kind
        ),
    }
    initial = before.initial if shared else replace(before.initial, state=state)
    plan = replace(
        before,
        config=config,
        initial=initial,
        identity=now,
        origin=origin,
        warnings=(warning,) if warning else (),
    )
    return plan, list(_remarks(before, plan, len(shared)))


def _state(store: Store, config: RunConfig, params: Ref, state: Ref | None) -> Ref | None:
    """The server optimizer's state to go on from: the parent's where it fits, else a new one. What
    it says of privacy goes on in either case."""
    try:
        held = store.get_arrays(state) if state else {}
        wanted = config.strategy.build().init(store.get_arrays(params))
    except (BlobMissing, BlobAltered) as error:
        raise ForkRefused(f"the model to start from cannot be read: {error}") from error
    private = {name: value for name, value in held.items() if name.startswith(STATE)}
    if held.keys() - private.keys() == wanted.keys():
        return state
    after = {**wanted, **private}
    return store.put_arrays(after, "server-state") if after else None


def _remarks(before: RunPlan, plan: RunPlan, shared: int) -> list[str]:
    if not shared:
        return []
    told = []
    first = f"rounds 1 to {shared}" if shared > 1 else "round 1"
    if before.identity["code"] != plan.identity["code"]:
        told.append(
            f"{first} were made by code {before.identity['code'][:12]}, later ones by "
            f"{plan.identity['code'][:12]}."
        )
    if before.identity["numerics"] != plan.identity["numerics"]:
        told.append(
            f"{first} were computed with {before.identity['numerics']}, later ones with "
            f"{plan.identity['numerics']}."
        )
    counts = before.config.rounds.count, plan.config.rounds.count
    if counts[0] != counts[1] and plan.config.training.schedule.kind != "constant":
        told.append(
            f"training.schedule.kind={plan.config.training.schedule.kind} depends on rounds.count: "
            f"{first} were trained with {counts[0]}, later ones with {counts[1]}."
        )
    return told


def _relink(
    chain: Chain,
    header: str,
    records: tuple[RoundRecord, ...],
    decisions: tuple[Decision, ...],
) -> None:
    """Writes the shared records and decisions, linked to the new run's header."""
    record, decision, number = header, header, 0
    for done in range(len(records) + 1):
        if done:
            linked = replace(records[done - 1], previous=record, decided=decision if number else "")
            _once(chain.append, linked)
            record = linked.digest
        for one in decisions:
            if one.round == done and one.verdict is not Verdict.STOP and one.point != REGISTRATION:
                number += 1
                kept = replace(one, number=number, previous=decision, after=record)
                _once(chain.keep_decision, kept)
                decision = kept.digest


def _once(write: Callable[[T], None], value: T) -> None:
    """Leaves what an earlier call wrote; whether it is the same shows when the chain is read."""
    with suppress(RunTakenOver):
        write(value)
