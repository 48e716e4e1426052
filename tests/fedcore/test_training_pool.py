"""The pool of worker processes: answers, deaths, orphans."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedcore.training.pool import WorkerDied, WorkerFailed, WorkerPool

CALLS = """
    import json, os, time
    from pathlib import Path

    def pid(payload):
        print("noise on standard output")
        return str(os.getpid())

    def threads(payload):
        import torch
        return json.dumps([torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]])

    def has_scipy(payload):
        import sys
        import fedcore.execute
        return str("scipy" in sys.modules)

    def wait(payload):
        folder, name = payload.split("|")
        Path(folder, f"{name}-{os.getpid()}").touch()
        while not Path(folder, "go").exists():
            time.sleep(0.01)
        return name

    def die(payload):
        os.kill(os.getpid(), 9)

    def raise_value(payload):
        raise ValueError("no such label")

    def raise_full(payload):
        raise OSError(28, "No space left on device")

    def trained(payload):
        import numpy as np
        from fedcore.digests import digest_arrays
        from fedcore.models.build import build_model
        from fedcore.models.settings import GroupNormCnnSettings
        from fedcore.models.state import trainable_state
        from fedcore.task import Task, TaskKind
        from fedcore.training.settings import LoopSettings
        from fedcore.training.train import predict, train

        settings = GroupNormCnnSettings(dropout=0.5)
        task = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
        preprocess = settings.preprocess({"kind": "image", "shape": [28, 28, 1]})
        model = build_model(settings, task, (1, 28, 28), seed=0)
        images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), dtype=np.uint8)
        train(model, images, np.arange(64) % 3, task=task, preprocess=preprocess, seed=0,
              settings=LoopSettings(momentum=0.9), learning_rate=0.1)
        logits = predict(model, images, preprocess=preprocess)
        return digest_arrays({**trainable_state(model), "logits": logits})
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module that a new process can import by name."""
    (tmp_path / "pool_calls.py").write_text(textwrap.dedent(CALLS))
    monkeypatch.syspath_prepend(str(tmp_path))
    import pool_calls  # type: ignore[import-not-found]

    yield pool_calls
    del sys.modules["pool_calls"]


def _appeared(folder: Path, pattern: str, count: int = 1) -> list[Path]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = sorted(folder.glob(pattern))
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{count} of {pattern} did not appear")


def test_a_process_is_kept_between_calls_and_is_not_this_one(calls) -> None:
    with WorkerPool(2) as pool:
        first = pool.run(calls.pid, "")
        assert first == pool.run(calls.pid, "")
        assert int(first) != os.getpid()
        assert pool.pids() == [int(first)], "the second worker was not needed"


def test_a_worker_has_one_torch_thread_and_nothing_of_scipy_before_it_trains(calls) -> None:
    with WorkerPool(1) as pool:
        assert pool.run(calls.threads, "") == '[1, "1"]'
        assert pool.run(calls.has_scipy, "") == "False"


def test_a_worker_trains_to_the_same_bytes_as_this_process(calls) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with WorkerPool(1) as pool:
            assert pool.run(calls.trained, "") == calls.trained("")
    finally:
        torch.set_num_threads(before)


def test_calls_of_many_threads_run_side_by_side(calls, tmp_path: Path) -> None:
    with WorkerPool(2) as pool, ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(pool.run, calls.wait, f"{tmp_path}|{n}") for n in "abc"]
        assert len(_appeared(tmp_path, "?-*", 2)) == 2, "two workers, so the third call waits"
        (tmp_path / "go").touch()
        assert [answer.result() for answer in answers] == ["a", "b", "c"]


def test_a_killed_worker_is_replaced_and_only_its_call_is_redone(calls, tmp_path: Path) -> None:
    with WorkerPool(2) as pool, ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(pool.run, calls.wait, f"{tmp_path}|{n}") for n in "ab"]
        victim = _appeared(tmp_path, "a-*")[0]
        _appeared(tmp_path, "b-*")
        os.kill(int(victim.name.split("-")[1]), signal.SIGKILL)
        _appeared(tmp_path, "a-*", 2)
        (tmp_path / "go").touch()
        assert [answer.result() for answer in answers] == ["a", "b"]
        assert len(list(tmp_path.glob("b-*"))) == 1, "the other call ran once"


def test_a_call_that_kills_every_worker_is_given_up(calls) -> None:
    with WorkerPool(1) as pool:
        with pytest.raises(WorkerDied, match=r"2 tries: killed by SIGKILL; killed by SIGKILL"):
            pool.run(calls.die, "")
        with pytest.raises(WorkerDied, match="1 tries"):
            pool.run(calls.die, "", retries=0)
        assert pool.run(calls.pid, "").isdigit(), "the pool works on"


def test_exceptions_keep_their_words_and_the_worker(calls) -> None:
    with WorkerPool(1) as pool:
        before = pool.run(calls.pid, "")
        with pytest.raises(WorkerFailed, match="ValueError: no such label"):
            pool.run(calls.raise_value, "")
        with pytest.raises(OSError, match="No space left") as raised:
            pool.run(calls.raise_full, "")
        assert raised.value.errno == 28
        assert pool.run(calls.pid, "") == before


def test_a_closed_pool_ends_its_processes_and_refuses(calls, tmp_path: Path) -> None:
    pool = WorkerPool(2)
    errors = []

    def call() -> None:
        try:
            pool.run(calls.wait, f"{tmp_path}|a")
        except WorkerDied as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    pid = int(_appeared(tmp_path, "a-*")[0].name.split("-")[1])
    pool.close()
    thread.join(30)
    assert errors == ["the pool of workers is closed; open a new one."]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(WorkerDied, match="closed"):
        pool.run(calls.pid, "")


def test_workers_end_when_their_parent_is_killed(calls, tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import pool_calls
from fedcore.training.pool import WorkerPool
WorkerPool(1).run(pool_calls.wait, {str(tmp_path)!r} + "|orphan")
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    pid = int(_appeared(tmp_path, "orphan-*")[0].name.split("-")[1])
    parent.kill()
    parent.wait()
    for _ in range(3000):
        if _is_gone(pid):
            return
        time.sleep(0.01)
    raise AssertionError("the worker outlived its parent")


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")  # nobody reaps an orphan in a container without init
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_pool_needs_workers() -> None:
    with pytest.raises(ValueError, match="workers=0 must be at least 1"):
        WorkerPool(0)
