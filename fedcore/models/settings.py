"""Which model is trained: one settings class per kind, each building a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedcore.form import Choice
from fedcore.models import provided
from fedcore.models.built import Built, Dropout
from fedcore.models.causal_settings import (
    CausalTransformerSettings as CausalTransformerSettings,
)
from fedcore.models.preprocess import Preprocess, default_preprocess
from fedcore.models.transformer_settings import (
    DeitTinyRandomSettings as DeitTinyRandomSettings,
)
from fedcore.models.transformer_settings import (
    TextTransformerSettings as TextTransformerSettings,
)
from fedcore.models.transformer_settings import (
    TransformerSettings as TransformerSettings,
)
from fedcore.settings import Plugin

if TYPE_CHECKING:
    from torch import nn

    from fedcore.task import Task


class LogisticSettings(Built, title="Logistic"):
    """Logistic (or linear) regression on the flattened input."""

    kind: Literal["logistic"] = "logistic"

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, ...) to (n, task.num_outputs)."""
        from fedcore.models.mlp import mlp

        return mlp(input_shape, task.num_outputs)


class MlpSettings(Built, title="MLP"):
    """A multi-layer perceptron on the flattened input."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        (64,), min_length=1, max_length=16, description="Width of each hidden layer."
    )
    dropout: Dropout = 0.0

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, ...) to (n, task.num_outputs)."""
        from fedcore.models.mlp import mlp

        return mlp(input_shape, task.num_outputs, self.hidden, self.dropout)


class McMahanCnnSettings(Built, title="CNN (McMahan)"):
    """The MNIST CNN of McMahan et al. 2017 (1.7 million parameters)."""

    kind: Literal["cnn_mcmahan"] = "cnn_mcmahan"

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.cnn import cnn_mcmahan

        return cnn_mcmahan(image_shape(self.kind, input_shape), task.num_outputs)


class GroupNormCnnSettings(Built, title="CNN (GroupNorm)"):
    """A small CNN with GroupNorm and a flatten head (224 thousand parameters)."""

    kind: Literal["cnn_gn"] = "cnn_gn"
    width: int = Field(16, ge=4, le=256, description="Channels of the first convolution.")
    dropout: Dropout = 0.0

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.cnn import cnn_gn

        shape = image_shape(self.kind, input_shape)
        return cnn_gn(shape, task.num_outputs, self.width, self.dropout)


class CifarCnnSettings(Built, title="CNN (CIFAR)"):
    """The CIFAR-10 CNN of McMahan et al. 2017 with GroupNorm (1.8 million parameters)."""

    kind: Literal["cnn_cifar"] = "cnn_cifar"
    dropout: Dropout = 0.0

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.cnn import cnn_cifar

        return cnn_cifar(image_shape(self.kind, input_shape), task.num_outputs, self.dropout)


class TanhCnnSettings(Built, title="CNN (bounded)"):
    """The MNIST CNN of Papernot et al. 2021 for private training (26 thousand parameters)."""

    kind: Literal["cnn_tanh"] = "cnn_tanh"
    activation: Literal["tanh", "relu"] = Field(
        "tanh", description="tanh is bounded, which keeps gradients near the clipping norm."
    )

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.cnn import cnn_tanh

        shape = image_shape(self.kind, input_shape, least=16)
        return cnn_tanh(shape, task.num_outputs, self.activation)


class ScatteringSettings(Built, title="Scattering"):
    """A linear model on fixed scattering features: the most accurate under strong privacy."""

    kind: Literal["scattering"] = "scattering"
    scales: int = Field(2, ge=1, le=4, description="Octaves J; features are means of 2^J pixels.")
    angles: int = Field(8, ge=2, le=16, description="Orientations L of the wavelets.")
    groups: int = Field(
        27,
        ge=1,
        description="Groups of neighbouring channels, each normalised in each image; divides the "
        "1 + J L + L^2 J (J - 1) / 2 channels.",
    )

    @model_validator(mode="after")
    def _divides(self) -> ScatteringSettings:
        scales, angles = self.scales, self.angles
        channels = 1 + scales * angles + angles**2 * scales * (scales - 1) // 2
        if channels % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide the {channels} channels of scales={scales} and "
                f"angles={angles}."
            )
        return self

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.scattering import Scattering, ScatteringClassifier

        shape = image_shape(self.kind, input_shape, least=max(8, 2 * 2**self.scales))
        backbone = Scattering(shape, scales=self.scales, angles=self.angles, groups=self.groups)
        return ScatteringClassifier(backbone, task.num_outputs)


class MobileNetSettings(Built, title="MobileNet"):
    """A small MobileNetV2 with GroupNorm."""

    kind: Literal["mobilenet"] = "mobilenet"
    width: float = Field(0.5, gt=0, le=4, description="Multiplier of all channel counts.")
    expansion: int = Field(6, ge=1, le=12, description="Widening inside a block.")

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.mobilenet import mobilenet

        shape = image_shape(self.kind, input_shape)
        return mobilenet(shape, task.num_outputs, self.width, self.expansion)


class ResNetSettings(Built, title="ResNet"):
    """A residual network with GroupNorm; width 16 is quick on a CPU, 64 is the full one."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[10, 18, 34] = Field(18, description="Number of layers.")
    width: int = Field(16, ge=4, le=256, description="Channels of the first stage (64: full).")

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs)."""
        from fedcore.models.resnet import resnet

        shape = image_shape(self.kind, input_shape)
        return resnet(shape, task.num_outputs, self.depth, self.width)


class ModelPlugin(Plugin, title="Plug-in"):
    """A model of another installed package (entry point group ``fedloom.models``).

    The entry point is ``factory(task, input_shape, **options) -> nn.Module``. In a scope of
    :func:`fedcore.models.provided.provided` it is the factory given there.
    """

    def factory(self) -> Any:
        """What makes the model."""
        return provided.find(self.name) or self.load("fedloom.models")

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """The factory's own ``preprocess(features)`` where it has one, else the default."""
        own = getattr(self.factory(), "preprocess", default_preprocess)
        return own(features)

    def served(self) -> Self:
        """The model as it is published: as it was trained."""
        return self

    def checkpoint(self) -> Path | None:
        """None: a plug-in's weights are trained and travel."""
        return None

    def backbone_digest(self) -> str | None:
        """None: a plug-in's weights are trained and travel."""
        return None

    def identity(self) -> dict[str, Any]:
        """JSON for job keys; an installed package's sources are in the key's code part."""
        source = provided.source_digest(self.name)
        return self.model_dump(mode="json") | ({"source": source} if source else {})

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """What the factory makes.

        Raises:
          ValueError: it is not a torch module.
        """
        from torch import nn

        model = self.factory()(task, input_shape, **self.options)
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"plugin name={self.name!r} made a {type(model).__name__}; "
                "its factory must return a torch.nn.Module."
            )
        return model


def image_shape(kind: str, input_shape: tuple[int, ...], least: int = 8) -> tuple[int, int, int]:
    """``input_shape`` as (channels, height, width).

    Raises:
      ValueError: it is not an image, or has a side of fewer than ``least`` pixels.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise ValueError(
            f"model kind={kind!r} reads images (channels, height, width) of at least {least} "
            f"pixels; the data has input_shape={input_shape}. Use logistic or mlp."
        )
    channels, height, width = input_shape
    return channels, height, width


ModelSettings = Annotated[
    LogisticSettings
    | MlpSettings
    | McMahanCnnSettings
    | GroupNormCnnSettings
    | CifarCnnSettings
    | TanhCnnSettings
    | ScatteringSettings
    | MobileNetSettings
    | ResNetSettings
    | DeitTinyRandomSettings
    | TransformerSettings
    | TextTransformerSettings
    | CausalTransformerSettings
    | ModelPlugin,
    Field(discriminator="kind"),
    Choice(),
]
