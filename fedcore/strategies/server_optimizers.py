"""Server optimizers: the mean delta taken as a pseudo-gradient, in float64.

Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2.
https://arxiv.org/abs/2003.00295
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedcore.strategies.algorithm import Algorithm, Arrays


def server_sgd(*, server_learning_rate: float, momentum: float = 0.0) -> Algorithm:
    """x + eta m with m = momentum m + Delta; FedAvg for eta 1 and momentum 0.

    Hsu et al., Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification, 2019, section 4 (FedAvgM). https://arxiv.org/abs/1909.06335
    """

    def init(params: Arrays) -> dict[str, np.ndarray]:
        return _zeros("momentum", params) if momentum else {}

    def step(
        params: Arrays, state: Arrays, mean_delta: Arrays
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        if not momentum:
            return {k: x + server_learning_rate * mean_delta[k] for k, x in params.items()}, {}
        state = {f"momentum.{k}": momentum * state[f"momentum.{k}"] + mean_delta[k] for k in params}
        moved = {k: x + server_learning_rate * state[f"momentum.{k}"] for k, x in params.items()}
        return moved, state

    return Algorithm(init, step)


def _adaptive(
    second: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    server_learning_rate: float,
    beta_1: float,
    tau: float,
    initial: float,
) -> Algorithm:
    """x + eta m / (sqrt(v) + tau), m = beta_1 m + (1 - beta_1) Delta, v = second(v, Delta^2)."""

    def init(params: Arrays) -> dict[str, np.ndarray]:
        start = {f"second.{k}": np.full(x.shape, initial) for k, x in params.items()}
        return _zeros("momentum", params) | start

    def step(
        params: Arrays, state: Arrays, mean_delta: Arrays
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        moved: dict[str, np.ndarray] = {}
        after: dict[str, np.ndarray] = {}
        for k, x in params.items():
            m = beta_1 * state[f"momentum.{k}"] + (1.0 - beta_1) * mean_delta[k]
            v = second(state[f"second.{k}"], mean_delta[k] ** 2)
            moved[k] = x + server_learning_rate * m / (np.sqrt(v) + tau)
            after[f"momentum.{k}"], after[f"second.{k}"] = m, v
        return moved, after

    return Algorithm(init, step)


def server_adagrad(
    *, server_learning_rate: float, beta_1: float = 0.0, tau: float = 1e-3, initial: float = 0.0
) -> Algorithm:
    """v + Delta^2 (FedAdagrad)."""
    return _adaptive(
        lambda v, square: v + square,
        server_learning_rate=server_learning_rate,
        beta_1=beta_1,
        tau=tau,
        initial=initial,
    )


def server_adam(
    *,
    server_learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    tau: float = 1e-3,
    initial: float = 0.0,
) -> Algorithm:
    """beta_2 v + (1 - beta_2) Delta^2 (FedAdam, no bias correction)."""
    return _adaptive(
        lambda v, square: beta_2 * v + (1.0 - beta_2) * square,
        server_learning_rate=server_learning_rate,
        beta_1=beta_1,
        tau=tau,
        initial=initial,
    )


def server_yogi(
    *,
    server_learning_rate: float,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    tau: float = 1e-3,
    initial: float = 0.0,
) -> Algorithm:
    """v - (1 - beta_2) Delta^2 sign(v - Delta^2) (FedYogi)."""
    return _adaptive(
        lambda v, square: v - (1.0 - beta_2) * square * np.sign(v - square),
        server_learning_rate=server_learning_rate,
        beta_1=beta_1,
        tau=tau,
        initial=initial,
    )


def _zeros(name: str, params: Arrays) -> dict[str, np.ndarray]:
    return {f"{name}.{k}": np.zeros(x.shape) for k, x in params.items()}
