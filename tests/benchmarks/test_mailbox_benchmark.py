"""The mailbox benchmark counts what it says, and its flood stays where it belongs. No numbers."""

from benchmarks.mailbox import _cell
from benchmarks.mailbox_flood import flood
from benchmarks.mailbox_parties import Trace, traced
from fedcore.sites.mailbox import Mailbox
from fedcore.store import Store


def test_requests_are_recorded_until_the_block_ends(tmp_path):
    mailbox = Mailbox(Store(tmp_path))
    with traced() as trace:
        assert mailbox.read("from/ward/run/a", 9) is None
        assert mailbox.post("from/ward/run/a", b"x") and mailbox.holds("from/ward/run/a")
    mailbox.read("from/ward/run/a", 9)
    assert [did for _, did, _ in trace.requests] == ["read", "post", "holds"]
    assert len(trace.posted("from/")) == 1 and trace.posted("to/") == []
    first, second, _ = (at for at, _, _ in trace.requests)
    assert trace.count("from/", since=second) == 2 and trace.count("from/", since=first) == 3
    assert Trace().count("from/", since=0) == 0


def test_the_flood_writes_messages_in_the_mailbox_only(tmp_path):
    told = flood(str(tmp_path / "mailbox"), "run", ["ward"], seconds=0.15, rate=200)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert told["written"] == len(files) > 9
    assert {path.relative_to(tmp_path).parts[0] for path in files} == {"mailbox"}
    assert {path.relative_to(tmp_path).parts[1] for path in files} <= {"to", "from", "all"}


def test_a_cell_reads_well():
    assert [_cell(one) for one in (0.0517, 7380.2, {}, {"not_json": 2})] == [
        "0.0517",
        "7380",
        "none",
        "not_json 2",
    ]
