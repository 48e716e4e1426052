"""A round that hides clients: its mechanism, keys and entries in the coordinator's ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fedcore.digests import digest_json
from fedcore.outcomes import ClientUpdate
from fedcore.participation import Coin
from fedcore.privacy.banded import INDEPENDENT, square_root_band
from fedcore.privacy.calibration import calibrate
from fedcore.privacy.client_level import Adaptive, ClientMechanism
from fedcore.privacy.disjoint import payer, payer_fingerprint
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
# What the server's state holds for the next round, beside the optimizer's.
STATE = "privacy."
CLIP_NORM = STATE + "clip_norm"  # where the clip norm follows a quantile
# (t, 32) digests of the sums whose noise the next one's goes on from, and (32,) of what has to hold
# for that.
_NAMES, _NOISE = STATE + "noise_names", STATE + "noise"


def client_event(config: RunConfig) -> SampledGaussian | None:
    """What one participation of a client tells, at most; None where clients are not hidden."""
    privacy = config.privacy
    if not isinstance(privacy, ClientLevel):
        return None
    rate, noise = config.participation.sampling_rate, privacy.noise_multiplier
    if noise is None:
        assert privacy.epsilon is not None
        most = config.participation.participations(config.rounds.count)
        noise = calibrate(privacy.epsilon, privacy.delta, rate, most)
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
    privacy, asking = config.privacy, config.participation
    if not isinstance(privacy, ClientLevel):
        return None
    event = client_event(config)
    assert event is not None
    noise, clip, adaptive = event.noise_multiplier, privacy.clip_norm, None
    if privacy.quantile is not None:
        stddev = privacy.count_stddev or max(asking.expected(len(sizes)) / 20, noise)
        adaptive = Adaptive(privacy.quantile, privacy.clip_learning_rate, stddev)
        clip = float(state.get(CLIP_NORM, clip))
    band = square_root_band(asking.apart) if privacy.correlation == "banded" else INDEPENDENT
    alone = ClientMechanism(clip, noise, 1.0, privacy.examples_cap, adaptive, band)
    return replace(
        alone, denominator=asking.expected(sum(alone.weight(size) for size in sizes.values()))
    )


@dataclass(frozen=True)
class ClientRound:
    """What makes an aggregation private.

    Attributes:
      mechanism: for the updates.
      key: what the noise is drawn with.
      earlier: the keys of the rounds whose noise it goes on from, oldest first.
      told: (who pays, event) of the release.
      state: what the next round needs to know of this one's noise, by name.
      charge: takes the digest of the new model before anybody sees it; it is on the disk when it
        returns. Raises BudgetExceeded.
    """

    mechanism: ClientMechanism
    key: bytes
    earlier: tuple[bytes, ...]
    told: tuple[tuple[str, SampledGaussian], ...]
    state: Mapping[str, np.ndarray]
    charge: Callable[[str], None]


def client_round(
    config: RunConfig,
    mechanism: ClientMechanism,
    data: str,
    base: str,
    updates: Sequence[tuple[str, ClientUpdate]],
    owner: Owner | None,
    *,
    round: int,
    parts: Sequence[str],
    state: Arrays,
) -> ClientRound:
    """The key is of this very sum: other updates, or another clip norm, get other noise.

    Args:
      data: digest of who holds what.
      base: digest of the model before.
      owner: the coordinator's secret and ledger; not needed with a fixed secret.
      round: from 1.
      parts: of the model, that the round trains; noise on others cannot be gone on from.
      state: the server's, by name. It has the names of earlier sums, which are public, and never
        their noise.

    Raises:
      NoOwner: there is none.
    """
    held = [(client, one.delta.digest, one.num_examples) for client, one in sorted(updates)]
    secret, groups = getattr(config.privacy, "secret", None), config.participation.apart
    # Noise goes on from noise in the same coordinates; the usual ones have always gone unnamed.
    coordinates = {getattr(config.privacy, "norm_of", "update")} - {"update"}

    def needs(number: int) -> str:
        how = [mechanism.band, mechanism.sum_multiplier, groups, secret, list(parts), *coordinates]
        return digest_json([*how, number])

    earlier = _earlier(mechanism, state, needs(round))
    about = ["client level", config.digest, base, held, asdict(mechanism), list(earlier)]
    name = digest_json(about)
    kept = {}
    if mechanism.band != INDEPENDENT:
        kept = {_NAMES: _as_bytes([*earlier, name]), _NOISE: _as_bytes([needs(round + 1)])[0]}
    rate = config.participation.sampling_rate
    told = tuple(
        (payer(round - ago, groups), SampledGaussian(rate, noise, 1))
        for ago, noise in enumerate(mechanism.multipliers(len(earlier)))
    )
    if secret == "fixed":
        fixed = [fixed_key(config.seed, each) for each in (*earlier, name)]
        return ClientRound(mechanism, fixed[-1], tuple(fixed[:-1]), told, kept, lambda _: None)
    if owner is None:
        raise NoOwner(_NO_OWNER)

    def charge(released: str) -> None:
        whose, budgets = owner.data or data, (owner.budget,) if owner.budget else ()
        owner.ledger.charge_together(
            (Charge(name, payer_fingerprint(whose, config.seed, who), event, released), budgets)
            for who, event in told
        )

    keys = [owner.key("client level", each) for each in (*earlier, name)]
    return ClientRound(mechanism, keys[-1], tuple(keys[:-1]), told, kept, charge)


def _earlier(mechanism: ClientMechanism, state: Arrays, needs: str) -> tuple[str, ...]:
    """Names of the sums whose noise is gone on from: none where anything that the cost of their
    clients depends on was otherwise, or a round between had other noise. New noise that owes
    nothing to the old is always safe."""
    if mechanism.band == INDEPENDENT or _NAMES not in state:
        return ()
    names, noise = state[_NAMES], state[_NOISE]
    return tuple(each.tobytes().hex() for each in names) if noise.tobytes().hex() == needs else ()


def _as_bytes(digests: Sequence[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(each)) for each in digests], np.uint8)


def secret_coin(config: RunConfig, owner: Owner | None, run_id: str) -> Coin | None:
    """Coins that only the coordinator can compute, where the promise counts on them."""
    if not isinstance(config.privacy, ClientLevel):
        return None
    if config.privacy.secret == "fixed":
        return None
    if owner is None:
        raise NoOwner(_NO_OWNER)
    if config.participation.sampling_rate == 1:  # nobody is drawn, and groups outlast the run
        return None

    def coin(round: int, client: str) -> float:
        stream = SecretStream(owner.key("participation", run_id, str(round), client))
        return int.from_bytes(stream.bytes(7), "little") / 2**56

    return coin
