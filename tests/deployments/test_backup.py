import io
import json
import os
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from deployments.care import backup
from deployments.care.backup import back_up, files_in_order
from deployments.care.restore import restore
from deployments.stack.stack import Stack, StackError, read_stack, write_stack
from fedcore.store import Store

QUIET = {"tell": lambda step: None}


@pytest.fixture
def home(tmp_path):
    """A home as a stack that runs has it: a run of two rounds and an open database in WAL mode."""
    home = tmp_path / "home"
    store = Store(home / "store")
    store.write("runs/r/header.json", b"{}")
    for number in (1, 2):
        store.write(f"runs/r/rounds/{number:06d}.json", b"{}")
    store.write("memo/ab/abc.json", b"{}")
    store.put(b"a model", "model")
    for name in (
        *("prefect/memo.toml", "mlflow/artifacts/1/model", "logs/worker.log", "runs/r/note"),
        *("cache/features", "secrets/api", "stack.lock", "supervisord.sock", "proxy/site.conf"),
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (home / "stack-link").symlink_to(home / "logs")
    write_stack(Stack(home, 4200, 5000, auth=True))
    # Left to the garbage collector, it would take its -wal and -shm away at any moment of a test.
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (a INTEGER)")
        yield home


def made(home, tmp_path):
    target = tmp_path / "backup.tar.gz"
    back_up(home, target, read_stack(home), **QUIET)
    return target


def repacked(source, target, change):
    """The backup with its members changed: ``change(name, data)`` -> [(TarInfo, data)]."""
    with tarfile.open(source) as here, tarfile.open(target, "w:gz") as there:
        for member in here:
            for info, data in change(member, here.extractfile(member).read()):
                info.size = len(data)
                there.addfile(info, io.BytesIO(data))
    return target


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_is_restored_is_what_was_there(home, tmp_path):
    target = made(home, tmp_path)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    new = tmp_path / "new"
    manifest = restore(target, new, **QUIET)
    before, after = contents(home), contents(new)
    assert set(before) - set(after) == {
        *("prefect/prefect.db-wal", "prefect/prefect.db-shm", "cache/features", "secrets/api"),
        *("stack.lock", "supervisord.sock", "proxy/site.conf"),
    }
    same = set(after) - {"stack.json", "prefect/prefect.db"}
    assert all(after[name] == before[name] for name in same)
    assert set(after) == {entry.name for entry in manifest.files} | {"stack.json"}
    stack = read_stack(new)
    assert stack == replace(read_stack(home), home=new, processes={})
    assert Store(new / "store").names("runs") == Store(home / "store").names("runs")


def test_a_database_is_copied_whole_while_others_write(home, tmp_path):
    source, stop = home / "prefect" / "prefect.db", threading.Event()
    pairs = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (-1);"

    def write():
        with sqlite3.connect(source, timeout=30) as database:
            while not stop.is_set():
                database.executescript(f"BEGIN; {pairs} COMMIT;")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copy = tmp_path / f"{number}.db"
            backup.copy_sqlite(source, copy)
            with sqlite3.connect(copy) as database:
                assert database.execute("SELECT coalesce(sum(a), 0) FROM t").fetchone() == (0,)
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        stop.set()
        writer.join()


def test_blobs_come_after_the_chains_that_name_them_and_databases_first(home):
    names = [path.relative_to(home).as_posix() for path in files_in_order(home)]
    kinds = [name.split("/")[1] for name in names if name.startswith("store/")]
    assert kinds == sorted(kinds, key=["runs", "memo", "blobs"].index)
    assert names[0].startswith("prefect/")
    assert names.index("logs/worker.log") > names.index("store/memo/ab/abc.json")
    assert len(names) == len(set(names))


def test_a_run_that_goes_on_leaves_nothing_dangling(home):
    store, seen = Store(home / "store"), []
    for path in files_in_order(home):
        name = path.relative_to(home).as_posix()
        seen.append(name)
        if "/rounds/" in name:  # meanwhile the run commits: first the blob, then the record
            number = len(store.names("runs/r/rounds")) + 1
            ref = store.put(f"model {number}".encode(), "model")
            store.write(f"runs/r/rounds/{number:06d}.json", json.dumps(vars(ref)).encode())
    rounds = [name for name in seen if "/rounds/" in name]
    assert [name[-11:-5] for name in rounds] == [f"{n + 1:06d}" for n in range(len(rounds))]
    for name in rounds[2:]:
        digest = json.loads((home / name).read_text())["digest"]
        assert f"store/blobs/{digest[:2]}/{digest}" in seen


def test_a_missed_earlier_round_is_looked_up(home):
    later = home / "store/runs/r/rounds/000002.json"
    assert set(backup._whole_chains([later])) == {later, later.with_name("000001.json")}


def test_a_file_that_grows_or_goes_meanwhile_spoils_nothing(home, tmp_path, monkeypatch):
    add = backup._add

    def slow_add(archive, name, file, size):
        if name == "logs/worker.log":
            with (home / name).open("a") as log:
                log.write("more")
        if name == "runs/r/note":
            raise FileNotFoundError(name)
        return add(archive, name, file, size)

    monkeypatch.setattr(backup, "_add", slow_add)
    new = tmp_path / "new"
    restore(made(home, tmp_path), new, **QUIET)
    assert (new / "logs" / "worker.log").read_text() == "logs/worker.log"
    assert not (new / "runs").exists()


def test_only_an_empty_home_is_filled(home, tmp_path):
    target = made(home, tmp_path)
    with pytest.raises(StackError, match="is not empty"):
        restore(target, home, **QUIET)
    (tmp_path / "empty").mkdir()
    restore(target, tmp_path / "empty", **QUIET)


def test_a_backup_is_not_overwritten_and_none_is_made_of_nothing(home, tmp_path):
    target = made(home, tmp_path)
    with pytest.raises(StackError, match="is there already"):
        back_up(home, target, None, **QUIET)
    with pytest.raises(StackError, match="nothing to back up"):
        back_up(tmp_path / "absent", tmp_path / "b", None, **QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "backup.tar.gz"}


def altered(member, data):
    return [(member, data[:-1] + b"?" if member.name == "logs/worker.log" else data)]


def without(member, data):
    return [] if member.name == "logs/worker.log" else [(member, data)]


def with_more(member, data):
    more = [(tarfile.TarInfo("more"), b"")] if member.name == "logs/worker.log" else []
    return [(member, data), *more]


def cut_off(member, data):
    return [] if member.name == "manifest.json" else [(member, data)]


def other_format(member, data):
    is_manifest = member.name == "manifest.json"
    return [(member, data.replace(b'"format": 1', b'"format": 9') if is_manifest else data)]


def twice(member, data):
    return [(member, data)] * (2 if member.name == "logs/worker.log" else 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (altered, r"logs/worker\.log in .* is other than its manifest says"),
        (without, r"logs/worker\.log in .* is missing"),
        (with_more, "more in .* is other than"),
        (cut_off, "has no manifest"),
        (other_format, "has format 9, this release reads 1"),
        (twice, "holds 'logs/worker.log' twice"),
    ],
)
def test_a_backup_that_is_not_whole_leaves_nothing(home, tmp_path, change, said):
    bad = repacked(made(home, tmp_path), tmp_path / "bad.tar.gz", change)
    with pytest.raises(StackError, match=said):
        restore(bad, tmp_path / "new", **QUIET)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("new")]


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "a\\out"])
def test_names_outside_of_the_home_are_refused(home, tmp_path, name):
    def outside(member, data):
        return [(member, data), (tarfile.TarInfo(name), b"x")]

    bad = repacked(made(home, tmp_path), tmp_path / "bad.tar.gz", outside)
    with pytest.raises(StackError, match="lies outside of a home"):
        restore(bad, tmp_path / "new", **QUIET)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_links_and_devices_are_refused(home, tmp_path, kind):
    def linked(member, data):
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc/passwd"
        return [(link, b""), (member, data)]

    bad = repacked(made(home, tmp_path), tmp_path / "bad.tar.gz", linked)
    with pytest.raises(StackError, match="no plain file"):
        restore(bad, tmp_path / "new", **QUIET)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "b").write_bytes(os.urandom(64))
    with pytest.raises(StackError, match="cannot be read as a backup"):
        restore(tmp_path / "b", tmp_path / "new", **QUIET)
    with pytest.raises(StackError, match="cannot be read as a backup"):
        restore(tmp_path / "absent", tmp_path / "new", **QUIET)
