"""A round that hides clients: its mechanism, key and entry in the coordinator's ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from fedcore.digests import digest_json
from fedcore.outcomes import ClientUpdate
from fedcore.participation import Coin
from fedcore.privacy.calibration import calibrate
from fedcore.privacy.client_level import Adaptive, ClientMechanism
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import Charge
from fedcore.privacy.owner import NoOwner, Owner, fixed_key
from fedcore.privacy.secret_stream import SecretStream
from fedcore.privacy.settings import ClientLevel
from fedcore.tensors import Arrays

if TYPE_CHECKING:
    from fedcore.config import RunConfig

_NO_OWNER = (
    "privacy.kind=client with secret=owner needs the coordinator's secret and ledger: give "
    "owner=Owner(folder)."
)
CLIP_NORM = "privacy.clip_norm"  # in the server's state, where the clip norm follows a quantile


def client_event(config: RunConfig) -> SampledGaussian | None:
    """What the accountant counts of each round; None where clients are not hidden."""
    privacy = config.privacy
    if not isinstance(privacy, ClientLevel):
        return None
    rate = float(getattr(config.participation, "sampling_probability", 1.0))
    noise = privacy.noise_multiplier
    if noise is None:
        assert privacy.epsilon is not None
        noise = calibrate(privacy.epsilon, privacy.delta, rate, config.rounds.count)
    return SampledGaussian(rate, noise, 1)


def client_mechanism(
    config: RunConfig, sizes: Mapping[str, int], state: Arrays
) -> ClientMechanism | None:
    """What the server does to the updates of a round; None where clients are not hidden.

    Args:
      sizes: client id -> training examples, of all clients of the run: the denominator is of those
        who are expected, not of those who come.
      state: the server's, by name.
    """
    privacy = config.privacy
    if not isinstance(privacy, ClientLevel):
        return None
    event = client_event(config)
    assert event is not None
    rate, noise = event.sampling_rate, event.noise_multiplier
    clip = float(state[CLIP_NORM]) if CLIP_NORM in state else privacy.clip_norm
    alone = ClientMechanism(clip, noise, 1.0, privacy.examples_cap)
    expected = rate * sum(alone.weight(size) for size in sizes.values())
    adaptive = None
    if privacy.quantile is not None:
        stddev = privacy.count_stddev or max(rate * len(sizes) / 20, noise)
        adaptive = Adaptive(privacy.quantile, privacy.clip_learning_rate, stddev)
    return replace(alone, denominator=expected, adaptive=adaptive)


@dataclass(frozen=True)
class ClientRound:
    """What makes an aggregation private.

    Attributes:
      mechanism: for the updates.
      key: what the noise is drawn with.
      charge: takes the digest of the new model before anybody sees it; it is on the disk when it
        returns. Raises BudgetExceeded.
    """

    mechanism: ClientMechanism
    key: bytes
    charge: Callable[[str], None]


def client_round(
    config: RunConfig,
    mechanism: ClientMechanism,
    data: str,
    base: str,
    updates: Sequence[tuple[str, ClientUpdate]],
    owner: Owner | None,
) -> ClientRound:
    """The key is of this very sum: other updates, or another clip norm, get other noise.

    Args:
      data: digest of who holds what.
      base: digest of the model before.
      owner: the coordinator's secret and ledger; not needed with a fixed secret.

    Raises:
      NoOwner: there is none.
    """
    held = [(client, one.delta.digest, one.num_examples) for client, one in sorted(updates)]
    name = digest_json(["client level", config.digest, base, held, asdict(mechanism)])
    if getattr(config.privacy, "secret", None) == "fixed":
        return ClientRound(mechanism, fixed_key(config.seed, name), lambda released: None)
    if owner is None:
        raise NoOwner(_NO_OWNER)
    event = client_event(config)
    assert event is not None

    def charge(released: str) -> None:
        owner.ledger.charge(Charge(name, data, event, released))

    return ClientRound(mechanism, owner.key("client level", name), charge)


def secret_coin(config: RunConfig, owner: Owner | None, run_id: str) -> Coin | None:
    """Coins that only the coordinator can compute, where the promise counts on them."""
    if not isinstance(config.privacy, ClientLevel):
        return None
    if config.privacy.secret == "fixed":
        return None
    if owner is None:
        raise NoOwner(_NO_OWNER)

    def coin(round: int, client: str) -> float:
        stream = SecretStream(owner.key("participation", run_id, str(round), client))
        return int.from_bytes(stream.bytes(7), "little") / 2**56

    return coin
