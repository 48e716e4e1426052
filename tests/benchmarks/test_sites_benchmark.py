"""The benchmark of many sites tells when things were in the mailbox. No numbers."""

from datetime import UTC, datetime

import pytest

from benchmarks.mailbox_parties import make_parties
from benchmarks.site_times import Mailed, between_rounds, until_started
from benchmarks.sites import asked, report
from fedcore.digests import digest_bytes
from fedcore.refs import Ref
from fedcore.sites.announcement import Announcement, Ask

BASE = Ref(digest_bytes(b"model"), 5, "model")


def test_training_is_timed_by_what_lies_in_the_mailbox(tmp_path):
    parties = make_parties(tmp_path, str(tmp_path / "mailbox"), ["east", "west"])
    lanes = parties.coordinator.lanes(parties.mailbox, "a-run", 1, ())
    mailed = Mailed(tmp_path / "mailbox", lanes)
    for number, round in enumerate((1, 2)):
        for site, lane in lanes.items():
            key = digest_bytes(f"{round} {site}".encode())
            lane.announce(Announcement(Ask.TRAIN, round, key, BASE))
            mailed.look()
            parties.mailbox.post(lane.lane.reply(key), b"an answer")
            blob = parties.mailbox.post_blob(lane.lane.outbox, b"%d" % number, "sealed")
            mailed.look()
            parties.mailbox.remove(lane.place_of(blob))
    lanes["east"].announce(Announcement(Ask.EVALUATE, 2, digest_bytes(b"another"), BASE, "test"))
    for lane in lanes.values():
        parties.mailbox.clear(lane.lane.outbox)

    announced, answered = mailed.times()

    jobs = [("east", 1), ("west", 1), ("east", 2), ("west", 2)]
    assert (
        sorted(announced, key=announced.__getitem__)
        == jobs
        == [*sorted(answered, key=answered.get)]
    )
    assert all(answered[job] >= announced[job] for job in jobs)
    (pause,) = between_rounds(announced, answered)
    assert pause == announced["east", 2] - answered["west", 1] >= 0


def test_a_task_is_timed_from_its_announcement():
    begun = datetime.fromtimestamp(107.5, UTC).isoformat()
    tasks = [
        {"flow_run_id": "s1", "name": "round-3/train", "start_time": begun},
        {"flow_run_id": "s1", "name": "round-3/evaluate", "start_time": begun},
        {"flow_run_id": "s1", "name": "round-4/train", "start_time": None},
        {"flow_run_id": "s2", "name": "prepare", "start_time": begun},
    ]
    sites = {"s1": "east", "s2": "west"}
    found = until_started({("east", 3): 106.0, ("east", 4): 107.0}, tasks, sites)
    assert found == {("east", 3): pytest.approx(1.5)}


def test_the_report_states_the_load(tmp_path, capsys):
    report(tmp_path, [{"sites": 8}])
    assert asked() in (tmp_path / "sites.md").read_text()
    assert "50 sites" in asked()
