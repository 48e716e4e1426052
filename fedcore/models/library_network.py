"""Networks of ``transformers`` from a checkpoint's folder, or from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedcore.models.quiet import quiet_transformers


def read_config(folder: Path, dropout: float) -> Any:
    """A checkpoint's configuration, with this dropout everywhere, whatever it was trained with."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name, value in config.to_dict().items():
        if ("dropout" in name or "pdrop" in name) and isinstance(value, int | float):
            setattr(config, name, dropout)
    return config


def load_network(auto: Any, folder: Path, config: Any, options: Mapping[str, Any]) -> Any:
    """The network in a checkpoint's folder: safetensors only, no code of the checkpoint's own.

    Args:
      auto: class of ``transformers`` that loads it.
      config: from :func:`read_config`.
      options: how weights are kept, from :func:`fedcore.models.weights.loading`.
    """
    with quiet_transformers():
        return auto.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=_attention(options["dtype"]),
            **options,
        )


def empty_network(auto: Any, config: Any, dtype: torch.dtype) -> Any:
    """As :func:`load_network` without the weights."""
    return auto.from_config(config, dtype=dtype, attn_implementation=_attention(dtype))


def _attention(dtype: torch.dtype) -> str:
    # On a CPU, 256 tokens: fused attention is 1.5 times as fast in float32, and a tenth slower in
    # bfloat16 (AVX-512 without AMX, forward and backward).
    return "sdpa" if dtype == torch.float32 else "eager"
