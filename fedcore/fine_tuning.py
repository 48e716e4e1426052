"""What adapters are trained on and in: the choices of fine-tuning, among those of any run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from fedcore.data.arrays import Arrays
from fedcore.data.cifar10 import CIFAR10
from fedcore.data.image_folder import ImageFolder
from fedcore.data.medical_abstracts import MedicalAbstracts
from fedcore.data.medmnist import MedMNIST
from fedcore.data.mnist import MNIST, FashionMNIST
from fedcore.data.newsgroups import Newsgroups
from fedcore.data.plugin import DataPlugin
from fedcore.data.scipy_docs import ScipyDocs
from fedcore.data.text import Text
from fedcore.form import Choice
from fedcore.models.causal_settings import CausalTransformerSettings
from fedcore.models.transformer_settings import TextTransformerSettings, TransformerSettings

if TYPE_CHECKING:
    from fedcore.config import RunConfig

Mode = Annotated[
    Literal["adapters"],
    Field(description="Adapters and the head are trained and travel; the rest is frozen."),
]


class AdaptedText(TextTransformerSettings, title="Text transformer"):
    """A pretrained text encoder or sequence classifier with adapters."""

    mode: Mode = "adapters"


class AdaptedImage(TransformerSettings, title="Image transformer"):
    """A pretrained image classifier with adapters."""

    mode: Mode = "adapters"


class AdaptedLanguage(CausalTransformerSettings, title="Causal language model"):
    """A pretrained causal language model with adapters, for texts that it learns to write."""

    mode: Annotated[
        Literal["adapters"],
        Field(description="Adapters are trained and travel; the rest is frozen."),
    ] = "adapters"


AdaptedModel = Annotated[
    AdaptedText | AdaptedImage | AdaptedLanguage, Field(discriminator="kind"), Choice()
]

TextsOrImages = Annotated[
    ScipyDocs
    | MedicalAbstracts
    | Newsgroups
    | Text
    | MedMNIST
    | MNIST
    | FashionMNIST
    | CIFAR10
    | Arrays
    | ImageFolder
    | DataPlugin,
    Field(discriminator="kind"),
    Choice(),
]


def is_fine_tuning(config: RunConfig) -> bool:
    """Whether a run is one of these, so that the form of fine-tuning can show it."""
    data, model = (get_args(get_args(one)[0]) for one in (TextsOrImages, AdaptedModel))
    return (
        isinstance(config.data, data)
        and config.preprocessing == type(config.preprocessing)()
        and any(issubclass(one, type(config.model)) for one in model)
        and getattr(config.model, "mode", None) == "adapters"
    )
