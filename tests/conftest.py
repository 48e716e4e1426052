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
