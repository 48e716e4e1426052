"""A mailbox that the other party may write to as it likes."""

import logging
import os

import pytest

from fedcore.object_store import StoreUnreachable
from fedcore.sites import mailbox as module
from fedcore.sites.mailbox import Mailbox
from fedcore.store import Store


@pytest.fixture
def mailbox(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"private")
    (tmp_path / "mailbox" / "from" / "ward").mkdir(parents=True)
    return Mailbox(Store(tmp_path / "mailbox"))


def test_a_pipe_a_device_and_a_link_are_no_messages(mailbox, tmp_path):
    run = tmp_path / "mailbox" / "from" / "ward" / "run"
    run.mkdir()
    os.mkfifo(run / "pipe")
    (run / "zeros").symlink_to("/dev/zero")
    (run / "link").symlink_to(tmp_path / "secret" / "key")
    (run / "folder").mkdir()
    for name in ("pipe", "zeros", "link", "folder"):
        assert mailbox.read(f"from/ward/run/{name}", 9) is None
        assert not mailbox.holds(f"from/ward/run/{name}")


def test_nothing_lies_in_a_file_where_a_folder_should_be(mailbox, tmp_path):
    (tmp_path / "mailbox" / "from" / "ward" / "run").write_bytes(b"x")
    assert mailbox.read("from/ward/run/name", 9) is None and not mailbox.holds("from/ward/run/name")


def test_a_folder_that_is_a_link_is_neither_read_nor_cleared(mailbox, tmp_path):
    (tmp_path / "mailbox" / "from" / "ward" / "run").symlink_to(tmp_path / "secret")
    (tmp_path / "mailbox" / "from" / "ward" / "deep").mkdir()
    (tmp_path / "mailbox" / "from" / "ward" / "deep" / "er").symlink_to(tmp_path / "secret")
    assert mailbox.read("from/ward/run/key", 9) is None and not mailbox.holds("from/ward/run/key")
    with pytest.raises(FileNotFoundError, match="leads out of the mailbox; remove the link"):
        mailbox.post("from/ward/run/new", b"x")
    mailbox.remove("from/ward/run/key")
    assert mailbox.clear("from/ward/run") == 0
    mailbox.clear("from/ward")
    mailbox.expire(before=float("inf"))
    assert (tmp_path / "secret" / "key").read_bytes() == b"private"


class CutOff(Store):
    """A folder behind a link that is cut for so many requests."""

    def __init__(self, folder, requests):
        super().__init__(folder)
        self.requests = requests

    def _answers(self):
        if self.requests:
            self.requests -= 1
            raise StoreUnreachable("cannot reach it")

    def write(self, name, data, *, exclusive=False):
        self._answers()
        super().write(name, data, exclusive=exclusive)

    def read_start(self, name, count):
        self._answers()
        return super().read_start(name, count)


def test_a_lost_connection_is_a_delay(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    place = CutOff(tmp_path, requests=2)
    assert Mailbox(place).post("from/ward/run/a", b"x")
    place.requests = 1
    with caplog.at_level(logging.WARNING):
        assert Mailbox(place).read("from/ward/run/a", 9) is None
    assert "cannot reach it" in caplog.text
    assert Mailbox(place).read("from/ward/run/a", 9) == b"x"
    place.requests = 9
    with pytest.raises(StoreUnreachable):
        Mailbox(place, patience=0).post("from/ward/run/b", b"x")
