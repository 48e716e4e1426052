"""The lines of Python that load an exported model and give its logits, for its README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def loading_code(
    module: Any, input_shape: Sequence[int], folder: str, head: str, base: str = ""
) -> str:
    """Code that goes from what the network is called with to ``logits``.

    Args:
      module: the exported :class:`fedcore.models.transformer.TransformerClassifier`.
      input_shape: one preprocessed input.
      folder: what was exported.
      head: name of the file of the head in it.
      base: arguments that load the base model of adapters; empty: the folder is a whole model.
    """
    library = module.backbone.library
    lines = ["from peft import PeftModel"] * bool(base)
    lines += ["from safetensors.torch import load_file"] * library.is_bare
    lines += [f"from transformers import {library.auto}", ""]
    whole = ", add_pooling_layer=False" * hasattr(module.backbone.network, "pooler")
    if base:
        lines.append(f"base = {library.auto}.from_pretrained({base}{whole})")
        lines.append(f'model = PeftModel.from_pretrained(base, "{folder}")')
    else:
        lines.append(f'model = {library.auto}.from_pretrained("{folder}"{whole})')
    answer = f"model({_arguments(module, input_shape)})"
    lines.append("model.eval()")
    if not library.is_bare:
        lines.append(f"logits = {answer}.logits")
    else:
        lines += [
            f"states = {answer}.last_hidden_state",
            "mask = attention_mask[..., None].float()",
            "mean = (states * mask).sum(1) / mask.sum(1)",
            "features = mean * mean.square().mean(1, keepdim=True).rsqrt()",
            f'head = load_file("{folder}/{head}")',
            'logits = features @ head["weight"].T + head["bias"]',
        ]
    return "\n".join(lines)


def _arguments(module: Any, input_shape: Sequence[int]) -> str:
    """Of the network, for inputs of this shape: tensors by name, all else by value."""
    import torch

    call = module.backbone.call(torch.zeros(1, *input_shape))
    return ", ".join(
        f"{name}={name if isinstance(value, torch.Tensor) else value}"
        for name, value in call.items()
    )
