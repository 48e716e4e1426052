"""Every place for a mailbox obeys the same laws; a new one is one row."""

import threading
import time
import uuid

import pytest

from fedcore.refs import Ref
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.refusal import Refusal
from fedcore.store import Store

ON_S3 = [pytest.mark.slow, pytest.mark.xdist_group("s3")]  # one server


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=ON_S3)])
def url(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "mailbox")
    if request.param == "memory":
        return f"memory://{uuid.uuid4()}"
    return f"{request.getfixturevalue('s3')}/{uuid.uuid4()}"


@pytest.fixture
def mailbox(url):
    return Mailbox(Store(url))


def refusal(reason):
    return pytest.raises(Refusal, match=f"^{reason}")


def test_nothing_is_overwritten(mailbox):
    assert mailbox.read("to/ward/run/a", 9) is None and not mailbox.holds("to/ward/run/a")
    assert mailbox.post("to/ward/run/a", b"first")
    assert not mailbox.post("to/ward/run/a", b"other")
    assert mailbox.read("to/ward/run/a", 9) == b"first" and mailbox.holds("to/ward/run/a")


def test_of_two_who_write_at_once_one_wins_and_the_other_learns_it(mailbox):
    names = [f"from/ward/run/{number}" for number in range(8)]
    together, won = threading.Barrier(2), {}

    def writes(who):
        for name in names:
            together.wait(10)
            won[who, name] = mailbox.post(name, who.encode())

    threads = [threading.Thread(target=writes, args=(who,)) for who in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for name in names:
        winners = [who for who in ("one", "two") if won[who, name]]
        assert [mailbox.read(name, 9)] == [who.encode() for who in winners]


def test_nobody_reads_half(mailbox):
    data, seen, done = bytes(4 * 2**20), set(), threading.Event()

    def reads():
        while not done.is_set():
            got = mailbox.read("to/ward/run/a", len(data))
            seen.add(None if got is None else len(got))

    reader = threading.Thread(target=reads)
    reader.start()
    mailbox.post("to/ward/run/a", data)
    assert mailbox.read("to/ward/run/a", len(data)) == data
    done.set()
    reader.join(10)
    assert seen <= {None, len(data)}


@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_message_is_read_up_to_its_bound(mailbox, size):
    mailbox.post("to/ward/run/a", bytes(size))
    assert mailbox.read("to/ward/run/a", 5) == bytes(size)
    assert mailbox.place.read_start("to/ward/run/a", 3) == bytes(min(size, 3))
    if size:
        with refusal("too_large: message"):
            mailbox.read("to/ward/run/a", size - 1)


def test_a_blob_is_what_its_digest_and_size_say(mailbox):
    ref = mailbox.post_blob("all/run", b"model", "model")
    assert mailbox.read_blob("all/run", ref) == b"model"
    with refusal("missing_blob: model"):
        mailbox.read_blob("all/other", ref)
    for size, reason in ((4, "too_large"), (6, "altered_blob: model")):
        with refusal(reason):
            mailbox.read_blob("all/run", Ref(ref.digest, size, "model"))
    mailbox.place.write(f"all/run/{ref.digest}", b"mode!")
    with refusal("altered_blob: model"):
        mailbox.read_blob("all/run", ref)


@pytest.mark.parametrize(
    "name",
    ["../x", "to/../../x", "/etc/passwd", "to//x", "to/a/./x", "to/a/.x", "to/a/x\n", "runs/x", ""],
)
def test_no_name_leads_out(mailbox, name):
    for use in (
        lambda: mailbox.read(name, 9),
        lambda: mailbox.post(name, b""),
        lambda: mailbox.holds(name),
        lambda: mailbox.remove(name),
        lambda: mailbox.clear(name),
        lambda: mailbox.read_blob(name, Ref("0" * 64, 9, "model")),
    ):
        with pytest.raises(ValueError, match="no name of a mailbox"):
            use()


def test_what_another_writes_is_there_at_once(mailbox, url):
    def another(does):
        """A file system of its own, as another process has it: fsspec shares them in a thread."""
        thread = threading.Thread(target=lambda: does(Mailbox(Store(url))))
        thread.start()
        thread.join(10)

    name = "from/ward/run/a"
    assert mailbox.place.names("from/ward/run") == [] and not mailbox.holds(name)
    another(lambda it: it.post(name, b"here"))
    assert mailbox.holds(name) and mailbox.read(name, 9) == b"here"
    assert mailbox.place.names("from/ward/run") == [name]
    another(lambda it: it.remove(name))
    assert not mailbox.holds(name) and mailbox.read(name, 9) is None
    assert mailbox.place.names("from/ward/run") == []
    mailbox.remove(name)


def test_only_its_folder_is_cleared(mailbox):
    others = ["all/run/a", "from/ward/run-2/a", "from/ward/runs/a", "from/ward2/run/a"]
    for name in [*others, "from/ward/run/a", "from/ward/run/b"]:
        mailbox.post(name, b"x")
    assert mailbox.clear("from/ward/run") == 2
    assert mailbox.place.names("") == others
    assert mailbox.clear("from/ward/run") == 0


def test_what_nobody_cleared_expires(mailbox):
    for name in ("to/ward/run/a", "from/ward/run/a", "all/run/a"):
        mailbox.post(name, b"x")
    assert mailbox.expire(before=time.time() - 60) == 0
    assert mailbox.expire(before=time.time() + 60) == 3
    assert mailbox.place.names("") == []
