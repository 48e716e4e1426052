"""A trained model as a checkpoint of ``transformers``: adapters merged into its weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedcore import tensors
from fedcore.models.adapters import adapted
from fedcore.models.frozen_linear import FrozenLinear, plain_linear
from fedcore.models.peft_folder import HEAD
from fedcore.models.quiet import quiet_transformers
from fedcore.models.state import as_array
from fedcore.task import Task, TaskKind


def write_merged(folder: Path, model: Any, task: Task) -> None:
    """Writes ``config.json`` and ``model.safetensors`` in float32, with the labels' names.

    The head is where the library's model has one, else in ``head.safetensors``; a language model
    has none of ours.

    Args:
      folder: is made.
      model: a :class:`fedcore.models.transformer.TransformerClassifier`.
    """
    library = model.backbone.library
    network = merged(model.backbone.network)
    head = model.head.get_submodule(library.own)
    folder.mkdir(parents=True)
    if library.is_bare:
        named = {name: as_array(tensor) for name, tensor in head.named_parameters()}
        (folder / HEAD).write_bytes(tensors.encode(named))
    if library.place is not None:
        network.set_submodule(library.place, head)
        labels = task.labels if task.num_outputs == len(task.labels) else task.labels[-1:]
        network.config.id2label = dict(enumerate(labels))
        network.config.label2id = {label: at for at, label in enumerate(labels)}
        network.config.problem_type = {
            TaskKind.REGRESSION: "regression",
            TaskKind.MULTICLASS: "single_label_classification",
        }.get(task.kind, "multi_label_classification")
    with quiet_transformers():
        network.save_pretrained(folder)


def merged(network: nn.Module) -> Any:
    """A copy in float32 whose plain layers are what the adapted ones were."""
    network = copy.deepcopy(network).float()
    for layer, module in list(adapted(network)):
        base = module.base_layer
        if isinstance(base, FrozenLinear) and base.residual is not None:
            base.weight.data += base.residual
            base.residual = None
        with torch.no_grad():
            module.merge()
        is_ours = isinstance(base, FrozenLinear)
        plain = base.as_it_was() if is_ours else plain_linear(base.weight, base.bias)
        network.set_submodule(layer.name, plain)
    return network
