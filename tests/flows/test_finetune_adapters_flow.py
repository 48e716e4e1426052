"""finetune-adapters on the real stack: trained as train-federated does, published for PEFT."""

import itertools
import json

import pytest

from fedcore.config import make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.run import run_federated
from fedcore.store import Store
from tasks.registry.export_version import export_version

pytestmark = pytest.mark.stack


def test_adapters_of_texts_from_the_form_to_a_version_that_peft_loads(
    on_stack, stack, tiny_bert, tmp_path
):
    from flows.finetune_adapters import finetune_adapters

    words = itertools.product(["the", "a"], ["cat", "dog"], ["sat", "ran"], ["on", "the mat", "a"])
    rows = [{"text": " ".join(w), "label": w[1]} for w in words]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
        "data": {"kind": "text", "path": str(own)},
        "partition": {"kind": "iid", "clients": 2},
        "audit": {"remedy": "accept"},
        "model": {"kind": "text_transformer", "name": str(tiny_bert), "max_tokens": 8},
        "aggregation": {"adapters": {"kind": "residual"}},
        "training": {"kind": "loop", "optimizer": "adamw", "learning_rate": 0.02},
        "rounds": {"count": 2},
        "speed": {"workers": 0},
    }
    parameters = finetune_adapters.validate_parameters(sections)
    state = finetune_adapters(**parameters, return_state=True)
    assert state.is_completed(), state.message
    store = Store(tmp_path / "alone")
    alone = run_federated(
        make_config(sections),
        store=store,
        engine=InProcessEngine(store, tmp_path / "cache"),
        run_id="alone",
    )[1]
    found = state.result()
    assert found["final_digest"] == alone.final_digest
    version = f"{found['model']}/{found['version']}"
    export_version(stack.mlflow_url, version, tmp_path / "adapter", merged=False)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] > 8  # the residual is in it
    with pytest.raises(ValueError, match="is there; name one that is not"):
        export_version(stack.mlflow_url, version, tmp_path / "adapter", merged=True)
