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


def loading(base: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for weights of this kind.

    Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023, section 3.
    https://arxiv.org/abs/2305.14314

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
        how = BitsAndBytesConfig(load_in_8bit=True)
    else:
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return {"quantization_config": how, "device_map": {"": 0}, "dtype": torch.bfloat16}
