"""How much each canary looks trained on, by what was released and a run without any canary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fedcore.task import Task
    from fedcore.tensors import Arrays
    from fedcore.training.samples import Samples

KEPT_NUMBERS = 1 << 26
"""Per-example gradients of up to this many numbers (256 MB) are kept and told apart."""
CHUNK = 32
RIDGE = 0.1


def update_scores(
    model: nn.Module, change: Arrays, records: Samples, targets: torch.Tensor, task: Task
) -> np.ndarray:
    """How much of each canary's gradient is in a change of the parameters.

    Inner products with ``-change`` as in Andrew et al., One-shot Empirical Privacy Estimation for
    Federated Learning, ICLR 2024, section 3; where the gradients fit in memory the coefficients of
    the ridge regression of ``-change`` on all of them, so that canaries do not shadow each other.

    Args:
      model: at whose parameters gradients are taken.
      change: after minus before, by name of trainable parameter.
      records: m of them.
      targets: shape (m,).
      task: gives the loss.

    Returns:
      shape (m,) float64, higher where the canary looks trained on.
    """
    import torch

    from fedcore.models.state import trainable_parameters
    from fedcore.training.threads import one_thread

    parameters = {name: p.detach() for name, p in trainable_parameters(model).items()}
    along = torch.cat([torch.from_numpy(np.array(change[n])).ravel() for n in parameters]).double()

    def loss(values, record, target):
        return task.loss(torch.func.functional_call(model, values, record[None]), target[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    is_kept = len(records) * len(along) <= KEPT_NUMBERS
    kept, products, lengths = [], [], []
    with one_thread():
        for part in torch.arange(len(records)).split(CHUNK):
            found = gradients(parameters, records.batch(part), targets[part])
            flat = torch.cat([found[n].reshape(len(part), -1) for n in parameters], 1)
            products.append(-(flat.double() @ along))
            lengths.append(flat.double().norm(dim=1))
            if is_kept:
                kept.append(flat)
        product = torch.cat(products)
        if not is_kept:
            return (product / torch.cat(lengths).clamp(min=1e-12)).numpy()
        every = torch.cat(kept)
        gram = (every @ every.T).double()
        size = gram.diagonal().mean().clamp(min=1e-12)
        ridge = RIDGE * size * torch.eye(len(gram), dtype=torch.float64)
        return torch.linalg.solve(gram + ridge, product).numpy()


def loss_scores(
    logits: np.ndarray, reference: np.ndarray, targets: np.ndarray, task: Task
) -> np.ndarray:
    """How much surer of each canary's label the model is than one that saw no canary, in log odds.

    For an attacker who has the final model only.

    Args:
      logits: shape (m, outputs).
      reference: shape (m, outputs), of the model without canaries.
      targets: shape (m,).
      task: binary, multiclass or ordinal.
    """
    from fedcore.attacks.lira import log_odds

    return log_odds(logits, targets, task) - log_odds(reference, targets, task)
