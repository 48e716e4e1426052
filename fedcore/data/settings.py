"""The choice of a data source: one settings class per source, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fedcore.data.arrays import Arrays
from fedcore.data.cifar10 import CIFAR10
from fedcore.data.heart import HeartDisease
from fedcore.data.image_folder import ImageFolder
from fedcore.data.medical_abstracts import MedicalAbstracts
from fedcore.data.medmnist import MedMNIST
from fedcore.data.mnist import MNIST, FashionMNIST
from fedcore.data.newsgroups import Newsgroups
from fedcore.data.plugin import DataPlugin
from fedcore.data.sklearn_tables import BreastCancer, Digits
from fedcore.data.table import Table
from fedcore.data.text import Text
from fedcore.form import Choice

__all__ = [
    "CIFAR10",
    "MNIST",
    "Arrays",
    "BreastCancer",
    "DataPlugin",
    "DataSettings",
    "Digits",
    "FashionMNIST",
    "HeartDisease",
    "ImageFolder",
    "MedMNIST",
    "MedicalAbstracts",
    "Newsgroups",
    "Table",
    "Text",
]

# Each member has ``load(folder) -> Dataset``, folder being the root that FEDLOOM_DATA names.
DataSettings = Annotated[
    Digits
    | BreastCancer
    | MedMNIST
    | MNIST
    | FashionMNIST
    | CIFAR10
    | HeartDisease
    | MedicalAbstracts
    | Newsgroups
    | Table
    | Text
    | Arrays
    | ImageFolder
    | DataPlugin,
    Field(discriminator="kind"),
    Choice(),
]
