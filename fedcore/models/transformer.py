"""Classifiers on networks of ``transformers``, trained in part, by adapters or in full."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fedcore.models.adapter_settings import AdapterSettings
from fedcore.models.adapters import add_adapters, carried, fit_adapters
from fedcore.models.cutting import Above, Below, can_be_cut, find_blocks
from fedcore.models.frozen import Cut
from fedcore.models.library import InLibrary
from fedcore.models.quiet import quiet_transformers
from fedcore.models.state import trainable_parameters
from fedcore.tensors import Arrays

Mode = Literal["head", "last-block", "adapters", "full"]


class TransformerClassifier(nn.Module):
    """A backbone and a head. What is frozen stays in evaluation mode, dropout included.

    Attributes:
      backbone: from inputs (n, ...) to features; a :class:`fedcore.models.cutting.Backbone`.
      head: from features to logits (n, outputs); always trained, in float32.
      mode: what else is: nothing; the last block and what follows it; adapters in the top blocks;
        everything.
      adapter: how these adapters are.
    """

    def __init__(
        self,
        backbone: Any,
        head: nn.Module,
        mode: Mode,
        adapter: AdapterSettings | None = None,
        example: torch.Tensor | None = None,
    ) -> None:
        """
        Args:
          adapter: for mode ``adapters``.
          example: some preprocessed inputs, to try whether the backbone can be cut at a block;
            None: it is not.
        """
        super().__init__()
        self.mode = mode
        weight = next(backbone.parameters())
        self.backbone = backbone
        self.head = head.to(weight.device)  # quantised weights are on a GPU already
        self.adapter = adapter or AdapterSettings()
        self._views: tuple[Below, Above, Above] | None = None
        self._first = 0  # block with something to train
        if mode == "adapters":
            self._first = add_adapters(backbone.network, self.adapter)
        elif mode != "full":
            backbone.requires_grad_(False)
        if mode == "last-block":
            blocks = find_blocks(backbone.network)[1]
            self._first = len(blocks) - 1
            for parameter in from_last_block(backbone.network):
                parameter.requires_grad_(True)
        self._can_be_cut = (
            mode in ("last-block", "adapters")
            and example is not None
            and can_be_cut(backbone, example.to(weight.device))
        )
        self._travel = [n for n in trainable_parameters(backbone)] if mode != "full" else []

    def cut(self) -> Cut | None:
        """After all of the backbone when the head alone is trained now, else before the first block
        with something to train; see :class:`fedcore.models.frozen.CanBeCut`.

        What is below that block runs once for both.
        """
        is_frozen = not any(parameter.requires_grad for parameter in self.backbone.parameters())
        if not self._can_be_cut:
            return self._frozen(self.backbone, None) if is_frozen else None
        below, features, logits = self._views = self._views or (
            Below(self.backbone, self._first),
            Above(self.backbone, self._first, nn.Identity()),
            Above(self.backbone, self._first, self.head),
        )
        return self._frozen(features, below) if is_frozen else Cut(below, logits)

    def _frozen(self, backbone: nn.Module, below: nn.Module | None) -> Cut:
        """The cut before the head; of the backbone's tensors those travel that others train."""
        named = dict(self.backbone.named_parameters())
        brought = {id(named[name]) for name in self._travel}
        brought |= {id(tensor) for tensor in carried(self.backbone).values() if tensor is not None}
        tensors = backbone.state_dict(keep_vars=True).items()
        travelling = {name: tensor for name, tensor in tensors if id(tensor) in brought}
        return Cut(backbone, self.head, below, travelling)

    def fit(self, params: Arrays) -> None:
        """Take the ranks of adapters and the corrections of weights that ``params`` have."""
        fit_adapters(self, params, self.adapter.scaling)

    def carried(self) -> Mapping[str, torch.Tensor | None]:
        """What is sent to clients beside what they train, by name; None where it counts as zero."""
        return carried(self)

    def train(self, mode: bool = True) -> TransformerClassifier:
        """As ``nn.Module.train``, but frozen blocks stay in evaluation mode."""
        super().train(mode)
        if mode and self.mode != "full":
            self.backbone.eval()
        if mode and self.mode in ("last-block", "adapters"):
            for block in find_blocks(self.backbone.network)[1][self._first :]:
                block.train()
        return self

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, ...) to logits (n, outputs)."""
        logits: torch.Tensor = self.head(self.backbone(inputs))
        return logits


class ImageBackbone(nn.Module):
    """An image classifier of ``transformers`` without its last layer."""

    def __init__(self, network: nn.Module) -> None:
        """
        Args:
          network: from ``AutoModelForImageClassification``; its ``classifier`` is taken off.

        Raises:
          ValueError: it has no linear ``classifier``.
        """
        super().__init__()
        *before, last = _layers(getattr(network, "classifier", None))
        if not isinstance(last, nn.Linear):
            raise ValueError(
                f"{type(network).__name__} has no linear layer `classifier` to replace; "
                "use an architecture such as ViT, DeiT, DINOv2 or Swin, or a model plug-in."
            )
        self.width: int = last.in_features
        network.classifier = nn.Sequential(*before, nn.Identity())
        self.network = network
        place = f"classifier.{len(before)}" if before else "classifier"
        self.library = InLibrary("AutoModelForImageClassification", "1", place)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to features (n, width); other sizes by interpolated positions."""
        call = self.call(inputs)
        return self.features(self.network(**call), call)

    def call(self, inputs: torch.Tensor) -> dict[str, Any]:
        """Arguments of the network for images (n, channels, h, w)."""
        config: Any = self.network.config
        size = getattr(config, "image_size", None)
        expected = tuple(size) if isinstance(size, list | tuple) else (size, size)
        if config.model_type in ("vit", "deit") and tuple(inputs.shape[2:]) != expected:
            return {"pixel_values": inputs, "interpolate_pos_encoding": True}
        return {"pixel_values": inputs}

    def resume(self, states: torch.Tensor) -> dict[str, Any]:
        """Arguments of a network that goes on from states (n, positions, d)."""
        return {"pixel_values": states}

    def kept(self, states: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        """The states as they are: images have no padding."""
        return states

    def features(self, answer: Any, call: Mapping[str, Any]) -> torch.Tensor:
        """(n, width) float32."""
        features: torch.Tensor = answer.logits
        return features.float()


def from_last_block(network: nn.Module) -> list[nn.Parameter]:
    """Parameters of the last block and of all that was registered after it (the final norm)."""
    everything = list(network.parameters())
    first = next(find_blocks(network)[1][-1].parameters())
    start = next(i for i, parameter in enumerate(everything) if parameter is first)
    return everything[start:]


def new_head(width: int, outputs: int, dropout: float) -> nn.Module:
    """Dropout and a linear layer from features (n, width) to logits (n, outputs)."""
    linear = nn.Linear(width, outputs)
    # As in ViT and DeiT: small weights, no bias.
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Dropout(dropout), linear)


def _layers(classifier: nn.Module | None) -> list[Any]:
    return list(classifier) if isinstance(classifier, nn.Sequential) else [classifier]


def load_backbone(folder: Path, options: Mapping[str, Any]) -> ImageBackbone:
    """The classifier in a checkpoint folder without its last layer; safetensors only.

    Args:
      options: how weights are kept, from :func:`fedcore.models.weights.loading`.
    """
    from transformers import AutoModelForImageClassification

    with quiet_transformers():
        network = AutoModelForImageClassification.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    return ImageBackbone(network)


def empty_backbone(config: Mapping[str, Any], dtype: torch.dtype) -> ImageBackbone:
    """The same without its weights, from the checkpoint's own configuration."""
    from transformers import AutoConfig, AutoModelForImageClassification

    known = AutoConfig.for_model(**config)
    return ImageBackbone(AutoModelForImageClassification.from_config(known, dtype=dtype))


def random_deit(
    *, image_size: int, patch_size: int, width: int, blocks: int, heads: int, dropout: float
) -> ImageBackbone:
    """A DeiT with random weights.

    Touvron et al., Training data-efficient image transformers and distillation through attention,
    ICML 2021. https://arxiv.org/abs/2012.12877

    Args:
      image_size: height and width in pixels.
      patch_size: side of a patch; divides ``image_size``.
      width: features of a token.
      blocks: number of transformer blocks.
      heads: attention heads; divides ``width``.
      dropout: probability inside the blocks.
    """
    from transformers import DeiTConfig, DeiTForImageClassification

    config = DeiTConfig(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return ImageBackbone(DeiTForImageClassification(config))
