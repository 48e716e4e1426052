"""A mailbox that the other party may write to as it likes."""

import os

import pytest

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
