"""Text encoders and sequence classifiers of ``transformers`` as backbones of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedcore.models.library import InLibrary
from fedcore.models.library_network import empty_network, load_network, read_config
from fedcore.models.transformer import new_head
from fedcore.models.weights import HEADS


class TextBackbone(nn.Module):
    """From token ids (n, positions) to features: of an encoder one vector per text, of a sequence
    classifier what its last layers read."""

    def __init__(self, network: nn.Module, pad: int, library: InLibrary) -> None:
        """
        Args:
          network: an encoder, or a sequence classifier whose classifier was taken off.
          pad: token id of padding, which is on the right.
          library: what it was.
        """
        super().__init__()
        config: Any = network.config
        self.width: int = config.hidden_size
        self.pad = pad
        self.network = network
        self.library = library

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, positions) token ids to features."""
        call = self.call(inputs)
        return self.features(self.network(**call), call)

    def call(self, inputs: torch.Tensor) -> dict[str, Any]:
        """Arguments of the network for token ids, as long as the longest text."""
        ids = inputs.long()
        mask = _mask(ids != self.pad)
        longest = _longest(mask)
        return {"input_ids": ids[:, :longest], "attention_mask": mask[:, :longest].long()}

    def resume(self, states: torch.Tensor) -> dict[str, Any]:
        """Arguments of a network that goes on from states; those of padding are zeros."""
        mask = _mask((states != 0).any(-1))
        longest = _longest(mask)
        # As in memory as what the blocks below gave: a view is multiplied in another order.
        kept = states[:, :longest].contiguous()
        return {"inputs_embeds": kept, "attention_mask": mask[:, :longest].long()}

    def kept(self, states: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        """The states with zeros for padding."""
        return states * call["attention_mask"][..., None].to(states.dtype)

    def features(self, answer: Any, call: Mapping[str, Any]) -> torch.Tensor:
        """Float32: the mean over tokens, scaled to a root mean square of 1, or the classifier's."""
        mask = call["attention_mask"][..., None].float()
        if hasattr(answer, "logits"):
            read: torch.Tensor = answer.logits.float()
            return read * mask if read.ndim == 3 else read  # padding has no states worth keeping
        mean = (answer.last_hidden_state.float() * mask).sum(1) / mask.sum(1)
        return mean * mean.square().mean(1, keepdim=True).clamp(min=1e-12).rsqrt()


def load_text(
    folder: Path, outputs: int, pad: int, dropout: float, options: Mapping[str, Any]
) -> tuple[TextBackbone, nn.Module]:
    """The network in a checkpoint folder and its head; safetensors only.

    A sequence classifier keeps its own head, with a new last layer where it has other labels. Any
    other encoder gets a linear one on the mean of its last states.

    Args:
      outputs: logits of the head.
      pad: token id of padding.
      dropout: probability everywhere, whatever the checkpoint was trained with.
      options: how weights are kept, from :func:`fedcore.models.weights.loading`.
    """
    config = read_config(folder, dropout)
    network = load_network(_kind(config), folder, config, options)
    return assemble_text(network, outputs, pad, dropout)


def empty_text(
    config: Mapping[str, Any], outputs: int, pad: int, dropout: float, dtype: torch.dtype
) -> tuple[TextBackbone, nn.Module]:
    """As :func:`load_text` without the weights, from the checkpoint's own configuration."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(**config)
    network = empty_network(_kind(known), known, dtype)
    return assemble_text(network, outputs, pad, dropout)


def _kind(config: Any) -> Any:
    from transformers import AutoModel, AutoModelForSequenceClassification

    is_classifier = any("SequenceClassification" in name for name in config.architectures or ())
    return AutoModelForSequenceClassification if is_classifier else AutoModel


def assemble_text(
    network: Any, outputs: int, pad: int, dropout: float
) -> tuple[TextBackbone, nn.Module]:
    """A network of ``transformers`` as a backbone and a float32 head.

    Raises:
      ValueError: a sequence classifier without a linear layer at its end.
    """
    name = next((n for n in HEADS if hasattr(network, n)), None)
    if name is None:
        if getattr(network, "pooler", None) is not None:
            network.pooler = None  # reads one token; nothing asks for it
        backbone = TextBackbone(
            network, pad, InLibrary("AutoModel", "1", None, "FEATURE_EXTRACTION")
        )
        return backbone, new_head(backbone.width, outputs, dropout)
    head = _with_outputs(getattr(network, name), outputs).float()
    setattr(network, name, nn.Identity())
    library = InLibrary("AutoModelForSequenceClassification", "", name, "SEQ_CLS")
    return TextBackbone(network, pad, library), head


def _with_outputs(classifier: nn.Module, outputs: int) -> nn.Module:
    linear = [(n, m) for n, m in classifier.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{type(classifier).__name__} has no linear layer; use an encoder without a head."
        )
    path, last = linear[-1]
    if last.out_features == outputs:
        return classifier
    *_, new = new_head(last.in_features, outputs, 0.0).children()
    if not path:
        return new
    parent, _, name = path.rpartition(".")
    setattr(classifier.get_submodule(parent), name, new)
    return classifier


def _mask(is_token: torch.Tensor) -> torch.Tensor:
    """(n, positions) bool; the first position always counts: a text of no token has no mean."""
    return torch.cat([torch.ones_like(is_token[:, :1]), is_token[:, 1:]], dim=1)


def _longest(mask: torch.Tensor) -> int:
    return int(mask.sum(1).max())
