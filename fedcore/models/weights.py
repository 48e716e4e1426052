"""How the frozen weights of a checkpoint are kept: float32, bfloat16, or quantised on a GPU."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any, Literal

from pydantic import Field

Base = Annotated[
    Literal["float32", "bfloat16", "int8", "nf4"],
    Field(
        description="How frozen weights are kept. bfloat16 takes half of the memory, and less time "
        "where the processor multiplies it (AMX, GPUs), more elsewhere; int8 and nf4 (QLoRA) need "
        "a CUDA device and bitsandbytes. What is trained is float32."
    ),
]

QUANTISED = ("int8", "nf4")
# Names of a checkpoint's own classifier. It is trained, in float32: quantised it could not be.
HEADS = ("classifier", "score")


def loading(base: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for weights of this kind.

    Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023, section 3 (4-bit
    NormalFloat, constants quantised once more, products in bfloat16).
    https://arxiv.org/abs/2305.14314. 8 bits: Dettmers et al., LLM.int8(), NeurIPS 2022.

    Weights are quantised as they are loaded, on the device where they stay. PEFT's
    ``prepare_model_for_kbit_training`` is left out: it makes norms and embeddings float32, which
    are bfloat16 here for every frozen kind, and turns on checkpointing of activations, which works
    against what is kept of blocks that train nothing.

    Raises:
      ValueError: the kind is quantised, and there is no CUDA device or no bitsandbytes.
    """
    import torch

    if base in ("float32", "bfloat16"):
        return {"dtype": getattr(torch, base)}
    has_device = torch.cuda.is_available()
    has_library = importlib.util.find_spec("bitsandbytes") is not None
    if not (has_device and has_library):
        found = ", ".join(
            f"{'a' if there else 'no'} {what}"
            for what, there in (("CUDA device", has_device), ("bitsandbytes", has_library))
        )
        raise ValueError(
            f"base={base!r} keeps weights in {'8' if base == 'int8' else '4'} bits, which needs "
            f"bitsandbytes on a CUDA device; here: {found}. Set model.base: bfloat16, or install "
            "bitsandbytes (pip install bitsandbytes) on a machine with a CUDA device."
        )
    from transformers import BitsAndBytesConfig

    if base == "int8":
        how = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(HEADS))
    else:
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=list(HEADS),  # of 4 bits too
        )
    return {"quantization_config": how, "device_map": {"": 0}, "dtype": torch.bfloat16}


def is_quantised(model: Any) -> bool:
    """Whether the frozen weights of a model with these settings have 8 or 4 bits."""
    return getattr(model, "base", "float32") in QUANTISED


def misplaced(model: Any, device: str) -> str | None:
    """Why weights as a model's settings keep them cannot be trained by this policy of devices; None
    when they can."""
    if not is_quantised(model) or device in ("cuda", "auto"):
        return None
    return (
        f"model.base={model.base} with training.device={device}: quantised weights are computed on "
        "a CUDA device; on many processors bitsandbytes packs 4 bits for inference alone. Set "
        "training.device: cuda, or model.base: bfloat16."
    )
