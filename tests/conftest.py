"""Fixtures shared by all tests."""

import json
import os
from pathlib import Path

import pytest

# Before torch is imported: two processes with two threads each are slower than one of each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """A process starts the stack once: the tests of a folder share one; a stack of one's own is a
    group of one's own. One group of all would be the tail that the other process waits for."""
    for item in items:
        if item.get_closest_marker("stack") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"stack of {item.path.parent.name}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failed test of the stack shows what its servers said last."""
    report = yield
    stack = item.funcargs.get("stack") if hasattr(item, "funcargs") else None
    if report.failed and stack is not None:
        from deployments.stack.supervision import last_lines, log_path

        for service in ("supervisord", "prefect", "worker"):
            lines = last_lines(log_path(stack.home, service), 25)
            report.sections.append((f"the end of {service}'s log", lines))
    return report


@pytest.fixture(scope="session")
def fedloom_data() -> Path:
    """The folder of real data sets, or a skip that says so."""
    folder = os.environ.get("FEDLOOM_DATA")
    if not folder:
        pytest.skip("needs real data: set FEDLOOM_DATA to the folder that holds it")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A checkpoint folder of a text encoder with random weights and eight words of its own."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat dog sat ran on a mat"
    config = BertConfig(
        vocab_size=13,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,  # at 0.02 all texts look alike
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text(words.replace(" ", "\n"))
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def _language_model(folder, config, begin=None):
    """A checkpoint folder of a causal language model with random weights: a token for each byte,
    <s> (256), and <end> (257)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({one: at for at, one in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "<end>"])
    if begin is not None:
        named = {"single": f"{begin} $A", "special_tokens": [(begin, 256)]}
        tokenizer.post_processor = processors.TemplateProcessing(**named)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<end>", model_max_length=64
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory) -> Path:
    """A language model whose layers are Conv1D, and whose embeddings are its output layer."""
    from transformers import GPT2Config

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 258}
    ends = {"bos_token_id": 257, "eos_token_id": 257}
    config = GPT2Config(**sizes, **ends, initializer_range=0.2)
    return _language_model(tmp_path_factory.mktemp("gpt2"), config)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory) -> Path:
    """A language model with layers that are not square, whose tokenizer begins each text."""
    from transformers import LlamaConfig

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 258}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    ends = {"bos_token_id": 256, "eos_token_id": 257}
    config = LlamaConfig(**sizes, **heads, **ends, initializer_range=0.2)
    return _language_model(tmp_path_factory.mktemp("llama"), config, begin="<s>")


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The real local stack in a folder of its own, started once; its tests are marked `stack`."""
    from deployments.stack.lifecycle import bring_down, bring_up

    home = tmp_path_factory.mktemp("home")
    try:
        yield bring_up(home, tell=lambda line: None)
    finally:
        bring_down(home)


@pytest.fixture(scope="session")
def s3():
    """URL of an empty bucket; its server is of this session, its address in the environment."""
    from benchmarks.s3_server import environment, make_bucket, s3_server

    with s3_server() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(url).items():
            patch.setenv(name, value)
        make_bucket("mailbox")
        yield "s3://mailbox"
