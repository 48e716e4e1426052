"""Image classifiers of the ``transformers`` library with a new head, trained in part or in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fedcore.models.quiet import quiet_transformers

Mode = Literal["head", "last-block", "full"]


class TransformerClassifier(nn.Module):
    """A backbone and a linear head. What is frozen stays in evaluation mode, dropout included.

    Attributes:
      backbone: from (n, channels, h, w) to features (n, d).
      head: dropout and a linear layer, from features to logits (n, outputs).
      mode: what is trained: the head; also the last block and what follows it; everything.
    """

    def __init__(self, backbone: ImageBackbone, outputs: int, mode: Mode, dropout: float) -> None:
        super().__init__()
        self.mode = mode
        self.backbone = backbone
        linear = nn.Linear(backbone.width, outputs)
        # As in ViT and DeiT: small weights, no bias.
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(nn.Dropout(dropout), linear)
        if mode != "full":
            self.backbone.requires_grad_(False)
        if mode == "last-block":
            for parameter in backbone.from_last_block():
                parameter.requires_grad_(True)

    @property
    def has_frozen_backbone(self) -> bool:
        """Whether features of an image never change, so that they can be kept."""
        return self.mode == "head"

    def train(self, mode: bool = True) -> TransformerClassifier:
        """As ``nn.Module.train``, but frozen blocks stay in evaluation mode."""
        super().train(mode)
        if mode and self.mode != "full":
            self.backbone.eval()
        if mode and self.mode == "last-block":
            self.backbone.last_block.train()
        return self

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to logits (n, outputs)."""
        return self.head(self.backbone(inputs))


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

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to features (n, width); other sizes by interpolated positions."""
        config: Any = self.network.config
        size = getattr(config, "image_size", None)
        expected = tuple(size) if isinstance(size, list | tuple) else (size, size)
        options = {}
        if config.model_type in ("vit", "deit") and tuple(inputs.shape[2:]) != expected:
            options["interpolate_pos_encoding"] = True
        features: torch.Tensor = self.network(pixel_values=inputs, **options).logits
        return features

    @property
    def last_block(self) -> nn.Module:
        """The last of the backbone's blocks (of its largest outermost list of modules).

        Raises:
          ValueError: the backbone has no list of blocks.
        """
        lists: dict[str, nn.ModuleList] = {}
        for name, module in self.network.named_modules():
            inside = any(name.startswith(f"{outer}.") for outer in lists)
            if isinstance(module, nn.ModuleList) and len(module) and not inside:
                lists[name] = module
        if not lists:
            raise ValueError(
                f"{type(self.network).__name__} has no list of blocks; use mode head or full."
            )
        largest = max(lists.values(), key=lambda m: sum(p.numel() for p in m.parameters()))
        return largest[-1]

    def from_last_block(self) -> list[nn.Parameter]:
        """Parameters of the last block and of all that was registered after it (the final norm)."""
        everything = list(self.network.parameters())
        first = next(self.last_block.parameters())
        start = next(i for i, parameter in enumerate(everything) if parameter is first)
        return everything[start:]


def _layers(classifier: nn.Module | None) -> list[Any]:
    return list(classifier) if isinstance(classifier, nn.Sequential) else [classifier]


def load_backbone(folder: Path) -> ImageBackbone:
    """The classifier in a checkpoint folder, float32, without its last layer; safetensors only."""
    from transformers import AutoModelForImageClassification

    with quiet_transformers():
        network = AutoModelForImageClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    return ImageBackbone(network)


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
