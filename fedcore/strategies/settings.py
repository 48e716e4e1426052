"""The strategies a config can name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from fedcore.form import Choice
from fedcore.settings import Plugin, Settings
from fedcore.strategies.algorithm import Algorithm
from fedcore.strategies.server_optimizers import (
    server_adagrad,
    server_adam,
    server_sgd,
    server_yogi,
)

ServerLearningRate = Annotated[float, Field(gt=0, description="Step of the server optimizer.")]
Beta = Annotated[float, Field(ge=0, lt=1, description="Decay of a moment; 0 forgets at once.")]
Tau = Annotated[float, Field(gt=0, description="Degree of adaptivity: smaller adapts more.")]
SecondMoment = Annotated[
    float | None,
    Field(ge=0, description="Initial second moment; tau squared when left out (Reddi et al.)."),
]


class FedAvg(Settings):
    """Federated averaging (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"
    server_learning_rate: ServerLearningRate = 1.0

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return server_sgd(server_learning_rate=self.server_learning_rate)


class FedProx(FedAvg):
    """FedAvg with a proximal term at the clients (Li et al. 2020)."""

    kind: Literal["fedprox"] = "fedprox"  # type: ignore[assignment]
    mu: float = Field(0.01, ge=0, description="Weight of the proximal term; 0 is FedAvg.")

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return replace(super().build(), drift={"kind": "proximal", "mu": self.mu})


class FedAvgM(Settings):
    """FedAvg with server momentum (Hsu et al. 2019)."""

    kind: Literal["fedavgm"] = "fedavgm"
    server_learning_rate: ServerLearningRate = 1.0
    momentum: Beta = 0.9

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return server_sgd(server_learning_rate=self.server_learning_rate, momentum=self.momentum)


class FedAdagrad(Settings):
    """Adagrad at the server (Reddi et al. 2021)."""

    kind: Literal["fedadagrad"] = "fedadagrad"
    server_learning_rate: ServerLearningRate = 0.1
    beta_1: Beta = 0.0
    tau: Tau = 1e-3
    initial_second_moment: SecondMoment = None

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return server_adagrad(
            server_learning_rate=self.server_learning_rate,
            beta_1=self.beta_1,
            tau=self.tau,
            initial=_second(self),
        )


class FedAdam(Settings):
    """Adam at the server (Reddi et al. 2021)."""

    kind: Literal["fedadam"] = "fedadam"
    server_learning_rate: ServerLearningRate = 0.01
    beta_1: Beta = 0.9
    beta_2: Beta = 0.99
    tau: Tau = 1e-3
    initial_second_moment: SecondMoment = None

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return server_adam(
            server_learning_rate=self.server_learning_rate,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            tau=self.tau,
            initial=_second(self),
        )


class FedYogi(FedAdam):
    """Yogi at the server (Reddi et al. 2021)."""

    kind: Literal["fedyogi"] = "fedyogi"  # type: ignore[assignment]

    def build(self) -> Algorithm:
        """The algorithm as a value."""
        return server_yogi(
            server_learning_rate=self.server_learning_rate,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            tau=self.tau,
            initial=_second(self),
        )


class StrategyPlugin(Plugin, title="Plug-in"):
    """A strategy of another package (entry points ``fedloom.strategies``)."""

    def build(self) -> Algorithm:
        """The algorithm as a value: ``factory(**options)``."""
        return self.load("fedloom.strategies")(**self.options)


def _second(settings: FedAdagrad | FedAdam) -> float:
    value = settings.initial_second_moment
    return settings.tau**2 if value is None else value


StrategySettings = Annotated[
    FedAvg | FedProx | FedAvgM | FedAdagrad | FedAdam | FedYogi | StrategyPlugin,
    Field(discriminator="kind"),
    Choice(),
]
