"""A trained adapter as a folder that ``PeftModel.from_pretrained`` puts on its base model.

https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedcore import tensors
from fedcore.adapters.scaling import Scaling
from fedcore.adapters.svd import factors
from fedcore.models.adapter_settings import AdapterSettings
from fedcore.models.adapters import ADAPTER, adapted
from fedcore.models.state import as_array
from fedcore.training.threads import one_blas_thread

CONFIG, TENSORS, HEAD = "adapter_config.json", "adapter_model.safetensors", "head.safetensors"

# PEFT's names begin so, and leave out the adapter's own.
_ROOT = "base_model.model."


def write_adapter(folder: Path, model: Any, base: str, revision: str) -> dict[str, int]:
    """Writes the adapters of a model and its head; the rank of each adapted layer.

    The head is among PEFT's ``modules_to_save`` where the library's model has one, else it is the
    file ``head.safetensors``; a language model has none of ours.

    Args:
      folder: is made.
      model: a :class:`fedcore.models.transformer.TransformerClassifier` of mode adapters.
      base, revision: the checkpoint that they belong on, by name.
    """
    library, settings = model.backbone.library, model.adapter
    found: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    is_turned = False
    with one_blas_thread():
        for layer, module in adapted(model.backbone.network):
            a, b = _factors(module, settings.scaling)
            ranks[layer.name] = len(a)
            is_turned |= getattr(module.base_layer, "was_conv1d", False)
            found |= {_named(layer.a): a, _named(layer.b): b}
            if ADAPTER in module.lora_magnitude_vector:
                length = as_array(module.lora_magnitude_vector[ADAPTER].weight)
                found[f"{_ROOT}{layer.name}.lora_magnitude_vector"] = length
    head = {library.head_name(f"head.{n}"): as_array(t) for n, t in model.head.named_parameters()}
    folder.mkdir(parents=True)
    if library.is_bare:
        (folder / HEAD).write_bytes(tensors.encode(head))
    else:
        found |= {_ROOT + name: value for name, value in head.items()}
    (folder / TENSORS).write_bytes(tensors.encode(found))
    config = _config(settings, ranks, library, base, revision) | {"fan_in_fan_out": is_turned}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True))
    return ranks


def folded(
    a: np.ndarray, b: np.ndarray, residual: np.ndarray, scaling: Scaling
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of one adapter that is what these and the residual are together.

    Of the rank that ``scaling(r) B A + residual`` has in float32, which is at most the smaller side
    of the weight: exact but for rounding.

    Args:
      a: (r, inputs).
      b: (outputs, r).
      residual: (outputs, inputs).

    Returns:
      (rank, inputs), (outputs, rank) float32.

    >>> a, b = folded(np.ones((1, 2)), np.zeros((2, 1)), np.eye(2), Scaling(4.0))
    >>> np.allclose(2.0 * b @ a, np.eye(2))
    True
    """
    product = scaling(len(a)) * b.astype(np.float64) @ a.astype(np.float64) + residual
    left, singular, right = np.linalg.svd(product, full_matrices=False)
    smallest = singular[0] * np.finfo(np.float32).eps * max(product.shape)
    rank = max(1, int(np.count_nonzero(singular > smallest)))
    nothing = np.zeros((rank, product.shape[1]))
    both = factors(left, singular, right, scaling(rank), nothing, rank)
    return both[0].astype(np.float32), both[1].astype(np.float32)


def _factors(module: Any, scaling: Scaling) -> tuple[np.ndarray, np.ndarray]:
    a, b = (as_array(factor[ADAPTER].weight) for factor in (module.lora_A, module.lora_B))
    residual = getattr(module.base_layer, "residual", None)
    return (a, b) if residual is None else folded(a, b, as_array(residual), scaling)


def _named(name: str) -> str:
    return _ROOT + name.replace(f".{ADAPTER}.", ".")


def _config(
    settings: AdapterSettings, ranks: dict[str, int], library: Any, base: str, revision: str
) -> dict[str, Any]:
    from peft import LoraConfig

    alpha: Any = settings.alpha  # declared a whole number, used as any
    most = max(ranks.values())
    config = LoraConfig(
        r=most,
        rank_pattern={name: rank for name, rank in ranks.items() if rank != most},
        lora_alpha=alpha,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        lora_dropout=settings.dropout,
        target_modules=list(ranks),
        modules_to_save=library.place and [library.place.split(".")[0]],
        bias="none",
        task_type=library.task_type,
        base_model_name_or_path=base,
        revision=revision,
        inference_mode=True,
    )
    # Sets have no order of their own.
    return {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
