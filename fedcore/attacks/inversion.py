"""Reconstructing a training record from one update of its client.

A linear layer with a bias gives its input away: Phong et al., Privacy-Preserving Deep Learning via
Additively Homomorphic Encryption, IEEE TIFS 2018, section III. For any other network the record is
searched whose gradient points like the update: Geiping, Bauermeister, Droege, Moeller, Inverting
Gradients - How easy is it to break privacy in federated learning?, NeurIPS 2020.
https://arxiv.org/abs/2003.14053
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fedcore.task import Task


def invert_linear(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Inputs of a linear layer from its update: ``dW_i / db_i`` for each output i.

    The gradient of ``W_i`` is that of ``b_i`` times the input, whatever the loss and the learning
    rate. Exact for one record; for a batch each row is a weighted mean of its records.

    Args:
      weight: shape (outputs, inputs), gradient or change of the weight.
      bias: shape (outputs,), of the bias.

    Returns:
      shape (r, inputs) for the r outputs whose bias moved, the strongest first.

    >>> record, errors = np.array([1.0, -2.0]), np.array([0.25, 0.0, -0.75])
    >>> invert_linear(np.outer(errors, record), errors)
    array([[ 1., -2.],
           [ 1., -2.]])
    """
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"weight of shape {weight.shape} and bias of shape {bias.shape} are not of one linear "
            "layer: (outputs, inputs) and (outputs,)."
        )
    order = np.argsort(-np.abs(bias), kind="stable")
    moved = order[bias[order] != 0]
    return np.asarray(weight, np.float64)[moved] / np.asarray(bias, np.float64)[moved, None]


def first_linear(update: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight and bias of the first layer of an update in order of names, if it is linear."""
    for name in sorted(update):
        if name.endswith("weight"):
            bias = update.get(name.removesuffix("weight") + "bias")
            return (update[name], bias) if update[name].ndim == 2 and bias is not None else None
    return None


def invert_gradient(
    model: nn.Module,
    update: Mapping[str, np.ndarray],
    targets: np.ndarray,
    *,
    task: Task,
    shape: tuple[int, ...],
    low: float,
    high: float,
    rng: np.random.Generator,
    steps: int = 400,
    restarts: int = 1,
    total_variation: float = 1e-2,
    step_size: float = 0.1,
) -> np.ndarray:
    """The records whose gradient has the smallest cosine distance to an update.

    Geiping et al. 2020, equation (4): Adam on the sign of the gradient of
    ``1 - cos(gradient(x), update) + total_variation * TV(x)``, values kept in their range, the step
    a tenth after 3/8, 5/8 and 7/8 of the steps. The labels are given: they can be read off a last
    layer's bias, and an audit assumes the stronger attacker.

    Args:
      model: with the parameters that the client started from; not changed.
      update: gradient, or the client's start minus its result, by name of trainable parameter.
      targets: shape (b,), labels of the records.
      task: gives the loss.
      shape: of one preprocessed record, e.g. (channels, height, width).
      low: smallest value of a preprocessed record.
      high: largest value.
      rng: where the search starts.
      steps: of the search.
      restarts: searches; the one with the smallest distance counts.
      total_variation: weight of smoothness between neighbouring pixels; 0 for tables.
      step_size: of Adam, in units of preprocessed values.

    Returns:
      shape (b, *shape) float32.

    Raises:
      ValueError: an update of another model, or one that is zero.
    """
    import torch

    from fedcore.models.state import trainable_parameters
    from fedcore.training.threads import one_thread

    parameters = trainable_parameters(model)
    if update.keys() != parameters.keys():
        raise ValueError("the update does not name exactly the model's trainable parameters.")
    observed = [torch.from_numpy(np.array(update[name], np.float32)) for name in parameters]
    size = torch.sqrt(torch.stack([part.square().sum() for part in observed]).sum())
    if not size > 0:
        raise ValueError("the update is zero: there is nothing to invert.")
    labels = torch.from_numpy(np.array(targets))

    def distance(records: torch.Tensor) -> torch.Tensor:
        loss = task.loss(model(records), labels)
        gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        pairs = list(zip(gradient, observed, strict=True))
        along = torch.stack([(g * o).sum() for g, o in pairs]).sum()
        length = torch.sqrt(torch.stack([g.square().sum() for g, _ in pairs]).sum())
        return 1 - along / (length * size + 1e-12)

    best, smallest = np.zeros((len(labels), *shape), np.float32), np.inf
    was_training = model.training
    with one_thread():
        model.eval()
        for _ in range(restarts):
            start = rng.standard_normal((len(labels), *shape)).astype(np.float32)
            records = torch.from_numpy(np.clip(start, low, high)).requires_grad_()
            optimizer = torch.optim.Adam([records], lr=step_size)
            cuts = [int(steps * part / 8) for part in (3, 5, 7)]
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, cuts, gamma=0.1)
            for _ in range(steps):
                objective = distance(records) + total_variation * roughness(records)
                (slope,) = torch.autograd.grad(objective, [records])
                records.grad = slope.sign()
                optimizer.step()
                schedule.step()
                with torch.no_grad():
                    records.clamp_(low, high)
            left = float(distance(records).detach())
            if left < smallest:
                best, smallest = records.detach().numpy().copy(), left
        model.train(was_training)
    return best


def roughness(images: torch.Tensor) -> torch.Tensor:
    """Total variation: mean absolute difference of neighbours along the last two axes."""
    if images.ndim < 4:
        return images.sum() * 0
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    across = (images[..., 1:] - images[..., :-1]).abs().mean()
    return down + across
