"""Sites with prompts and responses of their own: the same model as with all rows in one place."""

import json

from fedcore.config import make_config
from fedcore.data.text import Text
from fedcore.engines.in_process import InProcessEngine
from fedcore.run import run_federated
from fedcore.sites.session import Session
from fedcore.store import Store

NAMES = ("north", "south")
OWN = {"kind": "text", "name": "answers", "path": "own.jsonl", "task": "language", "label": ""}
OWN |= {"prompt": "prompt", "text": "response", "split": "split", "most_bytes": 40}
OWN |= {"test_fraction": 0.0}  # drawn at each site, it would be another one of all rows


def rows(site):
    return [
        {"site": site, "split": "val" if at % 4 == 3 else "train"}
        | {"prompt": f"{site} {at}?", "response": f"{at} of {site}."}
        for at in range(24)
    ]


def write(folder, found):
    folder.mkdir(parents=True)
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder


def test_sites_end_with_the_model_of_all_rows_in_one_place(
    make_world, attended, tiny_gpt2, tmp_path
):
    sections = {
        "model": {"kind": "causal_transformer", "name": str(tiny_gpt2), "max_tokens": 32},
        "audit": {"remedy": "accept"},
        "training": {"kind": "loop", "batch_size": 8, "steps": 2, "optimizer": "adamw"},
        "rounds": {"count": 2, "min_clients": 2},
        "evaluation": {"choose": "perplexity"},
    }
    wards = {name: (Text(**OWN), write(tmp_path / "wards" / name, rows(name))) for name in NAMES}
    world = make_world(wards)
    with attended(*(Session(site, "run") for site in world.sites.values())):
        result = world.run(world.config(**sections))[1]
    together = write(tmp_path / "together", [row for name in NAMES for row in rows(name)])
    data = OWN | {"path": str(together / "own.jsonl"), "owner": "site"}
    partition = {"kind": "by_owner"}
    store = Store(tmp_path / "alone")
    alone = run_federated(
        make_config({**sections, "data": data, "partition": partition}),
        store=store,
        engine=InProcessEngine(store, tmp_path / "cache"),
        run_id="alone",
    )[1]
    assert result.final_digest == alone.final_digest
    assert set(result.evaluation["val"]["clients"]["north"]) >= {"perplexity", "loss", "accuracy"}
