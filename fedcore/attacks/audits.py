"""The audits of one client: a bound on epsilon, membership, and what one update shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedcore.attacks.canaries import draw_canaries, flip_coins, joined
from fedcore.attacks.canary_scores import loss_scores, update_scores
from fedcore.attacks.client import AttackedClient
from fedcore.attacks.inversion import first_linear, invert_gradient, invert_linear
from fedcore.attacks.likeness import Likeness, best_match
from fedcore.attacks.lira import Membership, lira
from fedcore.attacks.one_run import OneRun, audit_one_run
from fedcore.models.state import load_trainable, trainable_parameters
from fedcore.rng import stream

if TYPE_CHECKING:
    from torch import nn

    from fedcore.tensors import Arrays


def one_run_audit(
    client: AttackedClient,
    *,
    delta: float,
    canaries: int,
    secret: bytes,
    seed: int,
    sees: Literal["updates", "model"] = "updates",
    confidence: float = 0.95,
) -> OneRun:
    """A lower bound on the epsilon of a client's whole training, from one run with canaries.

    Each canary joins the client's rows by a secret coin. A second run, without canaries and without
    noise, says what the attacker, who knows all other rows, expects; it depends on no coin.

    Args:
      client: whose training is audited.
      delta: of the claim.
      canaries: m, random inputs with random labels; a bound above 4 needs 2000 and more.
      secret: 32 bytes of the auditor: coins, and the private randomness of both runs.
      seed: which canaries.
      sees: ``updates`` scores by the sum of all that the client sent, ``model`` by the outputs of
        the last model alone.
      confidence: of the bound.
    """
    import torch

    rng = stream(seed, "audit canaries")
    drawn = draw_canaries(client.rows, canaries, task=client.task, rng=rng)
    coins = flip_coins(secret, canaries, "one run", seed)
    rows = joined(client.rows, drawn.take(np.flatnonzero(coins)))
    after = client.trainer(secret)(rows, f"one run {seed}")
    expected = client.with_noise(0).trainer(secret)(client.rows, f"reference {seed}")
    if sees == "model":
        scores = loss_scores(
            client.logits(after, drawn),
            client.logits(expected, drawn),
            drawn.targets,
            client.task,
        )
    else:
        model = client.build()
        load_trainable(model, expected)
        network, samples = client.reads(model.eval(), drawn.inputs)
        change = {name: after[name] - expected[name] for name in after}
        scores = update_scores(
            network,
            _of(network, model, change),
            samples,
            torch.from_numpy(drawn.targets),
            client.task,
        )
    return audit_one_run(scores, coins, delta=delta, confidence=confidence)


def membership_audit(
    client: AttackedClient,
    *,
    secret: bytes,
    seed: int,
    records: int = 1000,
    models: int = 24,
    kind: Literal["online", "offline"] = "online",
) -> Membership:
    """LiRA on a client's own rows, by the last model's outputs.

    Args:
      client: whose training is audited.
      secret: 32 bytes: the private randomness of all models.
      seed: which rows, and who is a member of what.
      records: of the client's rows, at most; half of them are trained on.
      models: shadow models, each attacked in turn.
      kind: see :func:`fedcore.attacks.lira.likelihood_ratios`.
    """
    rng = stream(seed, "audit members")
    chosen = client.rows.take(np.sort(rng.permutation(len(client.rows))[:records]))
    train_on = client.trainer(secret)

    def trainer(members, shadow):
        rows = chosen.take(np.flatnonzero(members))
        return client.logits(train_on(rows, f"shadow {seed} {shadow}"), chosen)

    return lira(trainer, chosen.targets, task=client.task, rng=rng, models=models, kind=kind)


@dataclass(frozen=True)
class Inversion:
    """What one update on one record shows of it.

    Attributes:
      likeness: of the best reconstruction.
      original: the record as what is trained reads it: pixels, or a frozen backbone's features.
      reconstruction: the best one.
      method: analytic (a linear first layer) or search.
    """

    likeness: Likeness
    original: np.ndarray
    reconstruction: np.ndarray
    method: Literal["analytic", "search"]


def inversion_audit(
    client: AttackedClient, *, secret: bytes, seed: int, record: int = 0, steps: int = 400
) -> Inversion:
    """Reconstructs a row of the client from one update on it.

    Args:
      client: whose clipping and noise are audited.
      secret: 32 bytes: the noise.
      seed: where a search starts.
      record: which row.
      steps: of a search.
    """
    import torch

    row = client.rows.take(np.array([record]))
    model = client.build()
    network, samples = client.reads(
        model, client.rows.inputs[np.r_[record, : min(100, len(client.rows))]]
    )
    every = samples.batch(torch.arange(len(samples))).numpy()
    original, low, high = every[0], float(every.min()), float(every.max())
    update = _of(network, model, client.one_update(row, secret))
    layer = first_linear(update)
    is_read = layer is not None and layer[0].shape[1] == original.size
    if layer is not None and is_read:
        found = invert_linear(*layer).reshape(-1, *original.shape)
    else:
        found = invert_gradient(
            network,
            update,
            row.targets,
            task=client.task,
            shape=original.shape,
            low=low,
            high=high,
            rng=stream(seed, "audit inversion"),
            steps=steps,
            total_variation=1e-2 if original.ndim == 3 else 0.0,
        )
    likeness = best_match(original, found, low=low, high=high)
    method: Literal["analytic", "search"] = "analytic" if is_read else "search"
    return Inversion(likeness, original, found[likeness.index], method)


def _of(network: nn.Module, model: nn.Module, values: Arrays) -> Arrays:
    """Values by name in ``model``, by name in the part of it that is trained."""
    names = {id(parameter): name for name, parameter in trainable_parameters(model).items()}
    return {
        name: values[names[id(parameter)]]
        for name, parameter in trainable_parameters(network).items()
    }
