"""Peak memory of a client's round of adapters, beside plain PEFT training of the same batch.

    python -m benchmarks.adapter_memory            # MiniLM of the extra fedloom[text]; a minute

Each road is a process of its own, which takes its own peak (``ru_maxrss``): a client's round as
Fedloom trains it; eight clients one after another in one process, as a worker does; a loop of
``peft.get_peft_model`` and ``torch.optim.AdamW`` over the whole network. The same number of texts,
batches, tokens, targets and rank, float32, one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CLIENTS = 8
ROADS = ("plain", "round", "clients")


def main() -> None:
    """Print the table, or as a child process one road's peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=32, help="of a client")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3, help="blocks with adapters, from the top")
    parser.add_argument("--road", choices=ROADS)
    given = parser.parse_args()
    if given.road:
        {"plain": plain, "round": own, "clients": own}[given.road](given)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return
    found = peaks(sys.argv[1:])
    print("| road | peak, MB | of plain PEFT |", "|---|---|---|", sep="\n")
    for road, peak in found.items():
        print(f"| {road} | {peak:.0f} | {peak / found['plain']:.2f} |")


def peaks(options: Sequence[str] = ()) -> dict[str, float]:
    """Each road's peak in MB, in a process of its own; options as on the command line."""
    command = [sys.executable, "-m", "benchmarks.adapter_memory", *options, "--road"]
    found = {}
    for road in ROADS:
        told = subprocess.run([*command, road], check=True, capture_output=True, text=True)
        found[road] = json.loads(told.stdout.splitlines()[-1])
    return found


def own(given: argparse.Namespace) -> None:
    """One client's round, or several of them in one process."""
    from fedcore.models.build import reusable_model
    from fedcore.training.settings import LoopSettings
    from fedcore.training.train import train

    settings, task = _settings(given), _task()
    preprocess = settings.preprocess({"kind": "text"})
    with tempfile.TemporaryDirectory() as cache:
        for client in range(CLIENTS if given.road == "clients" else 1):
            inputs, targets = _data(given, client)
            model = reusable_model(settings, task, (given.tokens,), 0, settings.identity())
            train(
                model,
                inputs,
                targets,
                task=task,
                preprocess=preprocess,
                settings=LoopSettings(optimizer="adamw", batch_size=given.batch),
                learning_rate=1e-3,
                seed=client,
                cache=Path(cache),
            )


def plain(given: argparse.Namespace) -> None:
    """The same batches through PEFT alone."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    from fedcore.models.checkpoint import find_checkpoint

    torch.set_num_threads(1)
    settings = _settings(given)
    ids = settings.preprocess({"kind": "text"}).apply(_data(given, 0)[0]).long()
    targets = torch.from_numpy(_data(given, 0)[1])
    network = AutoModel.from_pretrained(find_checkpoint(given.model), local_files_only=True)
    depth = network.config.num_hidden_layers
    top = list(range(depth - given.layers, depth))
    config = LoraConfig(r=8, target_modules=["query", "value"], layers_to_transform=top)
    network = get_peft_model(network, config)
    head = torch.nn.Linear(network.config.hidden_size, _task().num_outputs)
    trained = [p for p in (*network.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for rows in torch.randperm(len(ids)).split(given.batch):
        mask = (ids[rows] != 0).long()
        states = network(input_ids=ids[rows], attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.nn.functional.cross_entropy(head(mean), targets[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()


def _settings(given):
    from fedcore.models.settings import TextTransformerSettings

    adapter = {"rank": 8, "layers": given.layers, "targets": ["query", "value"]}
    return TextTransformerSettings(name=given.model, max_tokens=given.tokens, adapter=adapter)


def _task():
    from fedcore.task import Task, TaskKind

    return Task(TaskKind.MULTICLASS, tuple("abcde"))


def _data(given, client):
    """Texts of common words, longer than ``tokens``, with labels."""
    from fedcore.data.text_bytes import pack

    rng = np.random.default_rng(client)
    words = ["the", "patient", "had", "pain", "in", "his", "left", "arm", "after", "a", "fall"]
    texts = [" ".join(rng.choice(words, 2 * given.tokens)) for _ in range(given.texts)]
    return pack(texts), rng.integers(0, 5, given.texts)


if __name__ == "__main__":
    main()
