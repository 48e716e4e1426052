"""The order of announcements: whoever takes a lane up goes on where it stands, by few looks."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.correspondence import Correspondence
from fedcore.sites.identity import new_identity
from fedcore.sites.inbox import WIDELY, Inbox
from fedcore.sites.mailbox import Mailbox
from fedcore.sites.registry import RegisteredSite
from fedcore.store import Store

WARD, CENTRE = new_identity("ward"), new_identity("coordinator")


class Counted(Store):
    """A folder that counts what it is asked."""

    asked = 0

    def write(self, name, data, *, exclusive=False):
        self.asked += 1
        super().write(name, data, exclusive=exclusive)

    def read_start(self, name, count):
        self.asked += 1
        return super().read_start(name, count)


@pytest.fixture
def mailbox(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    return Mailbox(Counted(tmp_path))


def lane(mailbox):
    return Correspondence(mailbox, CENTRE, RegisteredSite(WARD.public, 100), "run")


def inbox(mailbox):
    return Inbox(mailbox, WARD, CENTRE.public, "run")


def statistics(number):
    """Something to say that is said once."""
    return Announcement(Ask.STATISTICS, facts={"number": number})


def heard(box):
    found = []
    while said := box.take():
        found.append(said.facts["number"])
    return found


def test_a_lane_that_is_taken_up_goes_on_after_the_last_announcement(mailbox):
    first = lane(mailbox)
    for number in range(1, 41):
        first.announce(statistics(number))
        if number in (1, 2, 3, 4, 7, 8, 9, 16, 31, 32, 33, 40):
            taken_up = lane(mailbox)
            taken_up.announce(Announcement(Ask.STATISTICS, facts={"number": -number}))
            assert taken_up.announced == first.announced + 1
    expected = [one for n in range(1, 41) for one in (n, -n)]
    assert [one for one in heard(inbox(mailbox))] == [
        one for one in expected if one > 0 or -one in (1, 2, 3, 4, 7, 8, 9, 16, 31, 32, 33, 40)
    ]


def test_a_lane_of_many_announcements_is_taken_up_by_few_looks(mailbox):
    first = lane(mailbox)
    for number in range(200):
        first.announce(statistics(number))
    mailbox.place.asked = 0
    lane(mailbox).announce(Announcement(Ask.CLOSE))
    assert mailbox.place.asked <= 2 + 2 * 8 + 1  # not 201


def test_the_same_words_are_left_once_when_the_reply_to_the_write_was_lost(mailbox):
    first, again = lane(mailbox), lane(mailbox)
    first.announce(statistics(1))
    again.announce(statistics(1))  # the same bytes: signatures are deterministic
    assert (first.announced, again.announced) == (1, 1)
    assert mailbox.post("to/ward/a", b"first") and mailbox.post("to/ward/a", b"first")
    for other in (b"firs", b"first!", b"other", b""):
        assert not mailbox.post("to/ward/a", other)


class Forgetful(BaseHTTPRequestHandler):
    """A server that keeps what it is given once, and loses its first reply."""

    protocol_version = "HTTP/1.1"  # a client waits for "100 Continue"
    kept, puts = b"", 0

    def do_PUT(self):
        body, here = self.rfile.read(int(self.headers["Content-Length"])), type(self)
        here.puts += 1
        if here.puts == 1:
            here.kept = body
            self.close_connection = True
            return
        self._say(412, b"<Error><Code>PreconditionFailed</Code></Error>")

    def do_GET(self):
        self._say(206, self.kept)

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_a_write_whose_reply_was_lost_on_the_way_is_ours(monkeypatch):
    """aiohttp, botocore and s3fs all repeat it, and none says so."""
    s3fs = pytest.importorskip("s3fs").S3FileSystem
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        # Clients are kept: none of another server's before, and none of this one's afterwards.
        s3fs.clear_instance_cache()
        place = Store("s3://lost-reply")
        s3fs.clear_instance_cache()
        assert Mailbox(place).post("to/ward/a", b"what we say")
        assert not Mailbox(place).post("to/ward/a", b"what another says")
        server.shutdown()
    assert Forgetful.puts == 3


def test_an_idle_site_looks_for_one_name_and_at_times_further(mailbox):
    box = inbox(mailbox)
    for _ in range(2 * WIDELY):
        assert box.take() is None
    assert mailbox.place.asked == 2 * (WIDELY + 1)


def test_an_announcement_that_comes_after_its_successor_is_read(mailbox, tmp_path):
    coordinator, box = lane(mailbox), inbox(mailbox)
    for number in (1, 2, 3):
        coordinator.announce(statistics(number))
    hidden = tmp_path / coordinator.lane.announcement(2)
    data = hidden.read_bytes()
    hidden.unlink()
    found = [one for _ in range(WIDELY) for one in heard(box)]
    assert found == [1, 3]
    hidden.write_bytes(data)
    assert [one for _ in range(WIDELY) for one in heard(box)] == [2]
