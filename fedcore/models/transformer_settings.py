"""Settings of models from the transformers library: random, of images, of texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedcore.models.adapter_settings import AdapterSettings
from fedcore.models.built import Built, Dropout
from fedcore.models.preprocess import ImagePreprocess, Preprocess
from fedcore.models.weights import Base, is_quantised
from fedcore.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from fedcore.task import Task

TrainedPart = Annotated[
    Literal["head", "last-block", "adapters", "full"],
    Field(
        description="What is trained and travels; the rest is frozen. The head is in all of them; "
        "adapters are small matrices beside the blocks' weights (LoRA)."
    ),
]
Adapter = Annotated[AdapterSettings, Field(description="What mode adapters puts into the blocks.")]


class DeitTinyRandomSettings(Built, title="Small transformer"):
    """A small DeiT with random weights: the transformer path without any download."""

    kind: Literal["deit_tiny_random"] = "deit_tiny_random"
    mode: TrainedPart = "full"
    adapter: Adapter = AdapterSettings()
    image_size: int = Field(32, ge=8, le=512, description="Images are resized to this side.")
    patch_size: int = Field(8, ge=2, le=64, description="Side of a patch.")
    width: int = Field(48, ge=4, le=1024, description="Features of a token.")
    blocks: int = Field(2, ge=1, le=48, description="Transformer blocks.")
    heads: int = Field(3, ge=1, le=32, description="Attention heads.")
    dropout: Dropout = 0.0

    @model_validator(mode="after")
    def _divides(self) -> DeitTinyRandomSettings:
        for name, whole, part in (
            ("patch_size", "image_size", self.image_size % self.patch_size),
            ("heads", "width", self.width % self.heads),
        ):
            if part:
                raise ValueError(
                    f"{name}={getattr(self, name)} must divide {whole}={getattr(self, whole)}."
                )
        return self

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """Colour images in [-1, 1], resized."""
        _images_only(self.kind, features)
        half = (0.5, 0.5, 0.5)
        return ImagePreprocess(3, half, half, resize=(self.image_size, self.image_size))

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, 3, h, w) to (n, task.num_outputs)."""
        import torch

        from fedcore.models.transformer import TransformerClassifier, new_head, random_deit

        backbone = random_deit(
            image_size=self.image_size,
            patch_size=self.patch_size,
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            dropout=self.dropout,
        )
        head = new_head(backbone.width, task.num_outputs, self.dropout)
        example = torch.zeros(2, *input_shape)
        return TransformerClassifier(backbone, head, self.mode, self.adapter, example)


class Pretrained(Settings):
    """A checkpoint of the transformers library."""

    name: str
    revision: str = Field("main", description="Branch, tag or commit on the hub.")
    mode: TrainedPart
    adapter: Adapter = AdapterSettings()
    base: Base

    @model_validator(mode="after")
    def _trains_in_float32(self) -> Self:
        if self.base != "float32" and self.mode in ("last-block", "full"):
            raise ValueError(
                f"base={self.base!r} is for weights that stay frozen; mode={self.mode!r} trains "
                "blocks in float32. Set base: float32, or mode: head or adapters."
            )
        return self

    def served(self) -> Self:
        """The model as it is published: without quantised weights, so that it runs anywhere."""
        return self.model_copy(update={"base": "bfloat16"}) if is_quantised(self) else self

    def checkpoint(self) -> Path:
        """The folder with the weights.

        Raises:
          CheckpointNotFound: there is none here.
        """
        from fedcore.models.checkpoint import find_checkpoint

        return find_checkpoint(self.name, self.revision)

    def backbone_digest(self) -> str | None:
        """SHA-256 of the checkpoint's configuration and weights."""
        from fedcore.models.checkpoint import checkpoint_digest

        return checkpoint_digest(self.checkpoint())

    def identity(self) -> dict[str, Any]:
        """JSON for job keys: the checkpoint's content instead of its place."""
        own = self.model_dump(mode="json", exclude={"name", "revision"})
        return own | {"backbone": self.backbone_digest()}


class TransformerSettings(Pretrained, title="Transformer"):
    """A pretrained image classifier of the transformers library with a new head."""

    kind: Literal["transformer"] = "transformer"
    name: str = Field(
        "facebook/deit-tiny-patch16-224",
        min_length=1,
        description="Checkpoint folder (as it is, or below FEDLOOM_DATA) or Hugging Face hub name.",
    )
    mode: TrainedPart = "head"
    base: Base = "float32"
    image_size: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="Side of the images; null: the checkpoint's. Small is fast.",
    )
    dropout: Dropout = 0.0

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """What the checkpoint's image processor does."""
        from fedcore.models.processor import checkpoint_preprocess

        _images_only(self.kind, features)
        return checkpoint_preprocess(self.checkpoint(), tuple(features["shape"]), self.image_size)

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, c, h, w) to (n, task.num_outputs).

        Raises:
          CheckpointNotFound: there are no such weights here.
        """
        import torch

        from fedcore.models.transformer import TransformerClassifier, load_backbone, new_head
        from fedcore.models.weights import loading

        backbone = load_backbone(self.checkpoint(), loading(self.base))
        head = new_head(backbone.width, task.num_outputs, self.dropout)
        example = torch.zeros(2, *input_shape)
        return TransformerClassifier(backbone, head, self.mode, self.adapter, example)

    def empty(self, config: Mapping[str, Any], task: Task, preprocess: Preprocess) -> nn.Module:
        """As :meth:`build` from the checkpoint's ``config`` alone: weights are yet to be loaded."""
        from fedcore.models.transformer import TransformerClassifier, empty_backbone, new_head
        from fedcore.models.weights import loading

        backbone = empty_backbone(config, loading(self.base)["dtype"])
        head = new_head(backbone.width, task.num_outputs, self.dropout)
        return TransformerClassifier(backbone, head, self.mode, self.adapter)


class TextTransformerSettings(Pretrained, title="Text transformer"):
    """A pretrained text encoder or sequence classifier of the transformers library."""

    kind: Literal["text_transformer"] = "text_transformer"
    name: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Checkpoint folder (as it is, or below FEDLOOM_DATA) or Hugging Face hub name; "
        "all-MiniLM-L6-v2 comes with the extra fedloom[text].",
    )
    mode: TrainedPart = "adapters"
    base: Base = "float32"
    max_tokens: int = Field(256, ge=2, le=8192, description="Longer texts are cut. Short is fast.")
    dropout: Dropout = 0.0

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """What the checkpoint's tokenizer does."""
        from fedcore.models.tokens import checkpoint_tokens

        texts_only(self.kind, features)
        return checkpoint_tokens(self.name, self.revision, self.max_tokens)

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, max_tokens) token ids to (n, task.num_outputs).

        Raises:
          CheckpointNotFound: there are no such weights here.
        """
        import torch

        from fedcore.models.text import load_text
        from fedcore.models.tokens import checkpoint_tokens
        from fedcore.models.transformer import TransformerClassifier
        from fedcore.models.weights import loading

        pad = checkpoint_tokens(self.name, self.revision, self.max_tokens).pad
        options = loading(self.base)
        backbone, head = load_text(self.checkpoint(), task.num_outputs, pad, self.dropout, options)
        word = pad - 1 if pad else 1
        example = torch.tensor([[word] * 6, [word] * 4 + [pad] * 2])  # of unlike length
        return TransformerClassifier(backbone, head, self.mode, self.adapter, example)

    def empty(self, config: Mapping[str, Any], task: Task, preprocess: Preprocess) -> nn.Module:
        """As :meth:`build` from the checkpoint's ``config`` alone: weights are yet to be loaded."""
        from fedcore.models.text import empty_text
        from fedcore.models.tokens import TextPreprocess
        from fedcore.models.transformer import TransformerClassifier
        from fedcore.models.weights import loading

        if not isinstance(preprocess, TextPreprocess):
            raise ValueError(f"model kind={self.kind!r} reads texts, not a {preprocess.kind}.")
        dtype = loading(self.base)["dtype"]
        backbone, head = empty_text(config, task.num_outputs, preprocess.pad, self.dropout, dtype)
        return TransformerClassifier(backbone, head, self.mode, self.adapter)


def _images_only(kind: str, features: Mapping[str, Any]) -> None:
    if features["kind"] != "image":
        raise ValueError(
            f"model kind={kind!r} reads images; the data is a {features['kind']}. "
            "Use logistic or mlp."
        )


def texts_only(kind: str, features: Mapping[str, Any]) -> None:
    """Refuses data that a model of this kind does not read.

    Raises:
      ValueError: it is no text.
    """
    if features["kind"] != "text":
        raise ValueError(
            f"model kind={kind!r} reads texts; the data is a {features['kind']}. Use another kind "
            "of model."
        )
