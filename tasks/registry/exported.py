"""A run's transformer for other software: a PEFT adapter or a whole checkpoint, with a README."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcore.task import Task
from tasks.registry.loading_code import loading_code

PREPROCESS = "preprocess.json"
TOKENIZER = "tokenizer"


def has_adapters(value: Mapping[str, Any]) -> bool:
    """Whether the served model of this ``serving.json`` is adapters on a named checkpoint."""
    return value["backbone"] is not None and value["model"]["mode"] == "adapters"


def export_adapter(folder: Path, served: Path) -> None:
    """Writes the adapters of a served model for ``PeftModel.from_pretrained``.

    Args:
      folder: is made.
      served: what :func:`tasks.registry.model_folder.write_parts` wrote.

    Raises:
      ValueError: it has none.
    """
    from fedcore.models.peft_folder import write_adapter
    from tasks.registry.serving import load_module

    value = _value(served)
    if not has_adapters(value):
        raise ValueError(
            f"a model of kind {value['model']['kind']} and mode {value['model'].get('mode')} has "
            "no adapters on a checkpoint; export it whole: --merged."
        )
    module = load_module(served, value)
    base = value["base"]
    ranks = write_adapter(folder, module, base["name"], base["revision"])
    about = {
        "base model": base_words(base),
        "adapters": f"{adapter_words(value['model']['adapter'])}; ranks {rank_words(ranks)}",
    }
    outputs = ""
    if module.backbone.library.place is not None:
        outputs = f", num_labels={_task(value).num_outputs}, ignore_mismatched_sizes=True"
    arguments = f'"{base["name"]}", revision="{base["revision"]}"{outputs}'
    _finish(folder, value, module, about, arguments)


def export_merged(folder: Path, served: Path) -> None:
    """Writes a served transformer as one checkpoint, adapters in its weights.

    Args:
      folder: is made.
      served: what :func:`tasks.registry.model_folder.write_parts` wrote.

    Raises:
      ValueError: it is no model of ``transformers``.
    """
    from fedcore.models.merged_folder import write_merged
    from tasks.registry.serving import load_module

    value = _value(served)
    if value["backbone"] is None:
        raise ValueError(
            f"a model of kind {value['model']['kind']} was not made from a checkpoint of "
            "transformers; mlflow.pyfunc.load_model is the way to it."
        )
    module = load_module(served, value)
    write_merged(folder, module, _task(value))
    if (served / TOKENIZER).is_dir():
        shutil.copytree(served / TOKENIZER, folder, dirs_exist_ok=True)
    about = {"trained from": base_words(value["base"])}
    _finish(folder, value, module, about)


def shown_name(name: str) -> str:
    """A checkpoint's name, of a folder of this machine its last part.

    >>> shown_name("facebook/deit-tiny-patch16-224"), shown_name("/home/ann/models/deit")
    ('facebook/deit-tiny-patch16-224', 'deit')
    """
    path = Path(name).expanduser()
    return path.name if path.is_absolute() else name


def base_words(base: Mapping[str, str]) -> str:
    """A checkpoint by name, revision and digest."""
    return f"`{base['name']}`, revision `{base['revision']}`, SHA-256 `{base['digest']}`"


def adapter_words(adapter: Mapping[str, Any]) -> str:
    """The settings of adapters in words.

    >>> adapter_words({"rank": 8, "alpha": 16.0, "rslora": False, "dora": True, "layers": 3})
    'DoRA, rank 8, alpha 16, blocks from the top: 3'
    """
    kind = "DoRA" if adapter.get("dora") else "LoRA"
    words = [kind, f"rank {adapter['rank']}", f"alpha {adapter['alpha']:g}"]
    words += ["rank-stabilised"] * bool(adapter.get("rslora"))
    if adapter.get("targets"):
        words.append(f"layers {', '.join(adapter['targets'])}")
    return ", ".join([*words, f"blocks from the top: {adapter.get('layers') or 'all'}"])


def rank_words(ranks: Mapping[str, int]) -> str:
    """Ranks of layers, one number where all are the same.

    >>> rank_words({"q": 8, "v": 8}), rank_words({"q": 8, "v": 2})
    ('8', '2 to 8 by layer')
    """
    low, high = min(ranks.values()), max(ranks.values())
    return str(low) if low == high else f"{low} to {high} by layer"


def _value(served: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((served / "serving.json").read_text())
    return value


def _task(value: Mapping[str, Any]) -> Task:
    return Task.from_json(value["task"])


def _finish(
    folder: Path, value: Mapping[str, Any], module: Any, about: Mapping[str, str], base: str = ""
) -> None:
    """What both kinds have: how inputs are read, and a README whose code gives the logits."""
    from fedcore.models.peft_folder import HEAD

    (folder / PREPROCESS).write_text(json.dumps(value["preprocess"], indent=1))
    task, kind = _task(value), value["preprocess"]["kind"]
    facts = about | {
        "predicts": f"{task.kind.value}: {', '.join(task.labels)}",
        "inputs": f"{kind}, read as `{PREPROCESS}` says",
        "parameters": f"SHA-256 `{value['digests']['params']}`",
    }
    code = loading_code(module, value["input_shape"], folder.name, HEAD, base)
    parts = [
        "# Trained by Fedloom",
        "\n".join(f"- {name}: {said}" for name, said in facts.items()),
        f"```python\n{code}\n```",
    ]
    if module.backbone.library.is_bare:
        parts.append(
            f"The base model has no head; ours is in `{HEAD}`. It reads the mean of the last "
            "states over tokens, scaled to a root mean square of 1."
        )
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")
