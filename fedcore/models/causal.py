"""Causal language models of ``transformers``: the log-likelihood of texts, and their continuation.

Radford et al., Language Models are Unsupervised Multitask Learners, 2019, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fedcore.models.causal_tokens import PADDING
from fedcore.models.library import InLibrary
from fedcore.models.library_network import empty_network, load_network, read_config

# Numbers among a batch's logits (positions times vocabulary) that are made at a time where nothing
# is learned: 256 MB in float32.
_AT_ONCE = 2**26

_UNSCORED = -100  # what the library's losses pass over, too


class CausalBackbone(nn.Module):
    """From token ids (n, positions), as :class:`fedcore.models.causal_tokens.CausalPreprocess`
    marks them, to what :class:`fedcore.task.TaskKind` says of language.

    A token reads only those before it, and padding is on the right: it needs no mask.
    """

    def __init__(self, network: Any) -> None:
        """
        Args:
          network: from ``AutoModelForCausalLM``; its own head stays, frozen where it is.
        """
        super().__init__()
        self.width: int = network.config.hidden_size
        self.network = network
        self.library = InLibrary("AutoModelForCausalLM", "", None, "CAUSAL_LM", has_head=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, positions) to (n, 3) float32."""
        if torch.is_grad_enabled():
            return self._scores(inputs)
        rows = max(1, _AT_ONCE // (inputs.shape[1] * int(self.network.config.vocab_size)))
        return torch.cat([self._scores(some) for some in inputs.split(rows)])

    def call(self, inputs: torch.Tensor) -> dict[str, Any]:
        """Arguments of the network for token ids, as long as the longest text."""
        ids = inputs.long()
        ids = ids[:, : max(1, int((ids != PADDING).sum(1).max()))]
        ids = torch.where(ids == PADDING, 0, ids)
        return {"input_ids": torch.where(ids < 0, ~ids, ids), "use_cache": False}

    def generate(self, prompt: Sequence[int], most: int, end: int) -> list[int]:
        """The most probable tokens after those of the prompt, one after the other: up to ``most``
        of them, up to ``end`` or as far as the network has positions."""
        limit = getattr(self.network.config, "max_position_embeddings", None)
        most = most if limit is None else min(most, limit - len(prompt))
        if most < 1:
            return []
        ids = torch.tensor([prompt], device=next(self.network.parameters()).device)
        found = self.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            eos_token_id=end,
            pad_token_id=end,
        )
        new: list[int] = found[0, len(prompt) :].tolist()
        return new

    def _scores(self, inputs: torch.Tensor) -> torch.Tensor:
        call = self.call(inputs)
        ids = call["input_ids"]
        scored = functional.pad((inputs.long() >= 0)[:, 1 : ids.shape[1]], (0, 1))
        labels = torch.where(scored, ids.roll(-1, dims=1), _UNSCORED)
        logits = self.network(**call).logits
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            reduction="none",
            ignore_index=_UNSCORED,
        )
        right = logits.detach().argmax(-1) == labels
        sums = (-losses.view_as(labels).sum(1), scored.sum(1), right.sum(1))
        return torch.stack([one.float() for one in sums], dim=1)


def load_causal(folder: Path, dropout: float, options: Mapping[str, Any]) -> CausalBackbone:
    """The language model in a checkpoint folder; safetensors only.

    Args:
      dropout: probability everywhere, whatever the checkpoint was trained with.
      options: how weights are kept, from :func:`fedcore.models.weights.loading`.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(folder, dropout)
    return CausalBackbone(load_network(AutoModelForCausalLM, folder, config, options))


def empty_causal(config: Mapping[str, Any], dtype: torch.dtype) -> CausalBackbone:
    """As :func:`load_causal` without the weights, from the checkpoint's own configuration."""
    from transformers import AutoConfig, AutoModelForCausalLM

    known = AutoConfig.for_model(**config)
    return CausalBackbone(empty_network(AutoModelForCausalLM, known, dtype))
