"""The network trial: what it does to a mailbox and to packets, what it finds wrong, and what it
says where it cannot be done. The trial itself is `python -m benchmarks.network`."""

import os
import select
import shutil
import socket
import ssl
import stat
import threading

import pytest

from benchmarks.network import __main__ as command
from benchmarks.network import links, summary, wire
from benchmarks.network.disorder import REPLACED, Disorder
from benchmarks.network.entrance import make_certificate
from benchmarks.network.trial import CUT, CUT_AFTER, CUT_FOR, Trial


def test_what_a_machine_lacks_is_said_and_nothing_is_begun(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(wire, "DEVICE", "/dev/none")
    monkeypatch.delenv("FEDLOOM_DATA", raising=False)
    assert command.main([]) == 2
    said = capsys.readouterr().err
    for word in (
        "ip (Debian: apt-get install iproute2)",
        "nft",
        "nginx",
        "/dev/none",
        "FEDLOOM_DATA",
    ):
        assert word in said


def test_without_the_right_to_make_a_namespace_it_says_so(monkeypatch):
    def refuse(*words):
        raise RuntimeError("Operation not permitted")

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(links, "ip", refuse)
    assert links.missing() == [
        "the right to make network namespaces (root, CAP_SYS_ADMIN): Operation not permitted"
    ]


def test_too_few_rounds_to_come_back_in_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rounds", "6"])
    assert "--rounds 6: the cut link needs 7" in capsys.readouterr().err


class Kept(Disorder):
    """Before a store in memory; what is to come later comes when it is told to."""

    def __init__(self):
        super().__init__("127.0.0.1:1", 0)
        self.objects, self.late = {}, []

    def ask(self, method, path, request):
        if method == "PUT":
            is_new = path not in self.objects
            self.objects.setdefault(path, request[1])
            return (200 if is_new else 412), [], b""
        return (200, [], self.objects[path]) if path in self.objects else (404, [], b"")

    def _later(self, path, request):
        self.late.append((path, request))


@pytest.fixture
def kept():
    with Kept() as server:
        yield server


def test_objects_come_twice_under_two_names_and_every_third_comes_late(kept):
    said = [kept.put(f"/from/{n}", ({}, b"%d" % n))[0] for n in range(1, 4)]
    assert said == [200, 200, 200] and set(kept.objects) == {"/from/1", "/from/2"}
    assert [kept.ask("PUT", path, request)[0] for path, request in kept.late[:2]] == [412, 200]
    for path, request in kept.late:
        kept.ask("PUT", path, request)
    assert kept.objects["/from/3"] == kept.objects["/from/3-copy"] == b"3"
    assert kept.did["held back"] == 1


def test_one_answer_finds_an_older_one_under_its_name(kept):
    for n in range(1, REPLACED + 2):
        kept.put(f"/from/{n}", ({}, b'{"signature":%d}' % n))
    kept.put("/from/update", ({}, b"sealed"))
    assert kept.objects[f"/from/{REPLACED}"] == b'{"signature":%d}' % (REPLACED - 1)
    assert kept.did["preceded by an old answer"] == 1


def test_every_third_announcement_is_not_there_at_the_first_look(kept):
    kept.objects = {f"/m/to/{n}": b"x" for n in range(3)} | {f"/m/all/{n}": b"x" for n in range(3)}
    first = [kept.get(path, ({}, b""))[0] for path in kept.objects]
    assert first == [200, 200, 404, 200, 200, 200]
    assert [kept.get(path, ({}, b""))[0] for path in kept.objects] == [200] * 6


def carried(delay):
    """What has come out of a wire of an hour's or no delay, into which two packets went."""
    here, source = socket.socketpair(type=socket.SOCK_DGRAM)
    target, there = socket.socketpair(type=socket.SOCK_DGRAM)
    stop, told = os.pipe()
    way = (source.fileno(), target.fileno(), delay, 1e9, stop)
    thread = threading.Thread(target=wire._carry, args=way)
    thread.start()
    try:
        here.send(b"one")
        here.send(b"two")
        if not delay:
            return [there.recv(9), there.recv(9)]
        return select.select([there], [], [], 0.05)[0]
    finally:
        os.close(told)
        thread.join()
        os.close(stop)
        for end in (here, source, target, there):
            end.close()


def test_packets_come_out_of_the_wire_in_order_and_later():
    assert carried(0) == [b"one", b"two"]
    assert carried(3600) == []


def rounds(came_back=True):
    """Ten, as they should be."""
    cut = range(CUT_AFTER + 1, CUT_AFTER + CUT_FOR + 1)
    sites = ("cleveland", "switzerland", "va")
    return [
        {
            "round": n,
            "seconds": 3.0,
            "cut": n in cut,
            "sites": dict.fromkeys(sites, "done")
            | {CUT: "done" if n < cut[0] or (n > cut[-1] and came_back) else "absent"},
        }
        for n in range(1, 11)
    ]


def test_what_goes_wrong_is_a_problem():
    good = {"connections": {"host to va, no firewall yet": True, "host to va": False}}
    assert Trial(**good, state="Completed", rounds=rounds()).problems == []
    bad = Trial(
        {"host to va, no firewall yet": True, "host to va": True}, "Failed", rounds(came_back=False)
    )
    assert bad.problems == [
        "the run is Failed",
        "connected: host to va",
        f"{CUT} did not come back",
    ]
    passed = rounds()
    passed[CUT_AFTER]["sites"][CUT] = "done"
    assert Trial(**good, state="Completed", rounds=passed).problems == [
        "the cut link let something pass"
    ]
    few = rounds()
    few[0]["sites"] |= {"va": "refused (base)", "cleveland": "absent"}
    assert Trial(**good, state="Completed", rounds=few).problems == [
        "rounds [1] have fewer than three updates"
    ]
    open_still = {CUT: "Running", "va": "Completed", "cleveland": "Cancelled"}
    assert Trial(**good, state="Completed", rounds=rounds(), sessions=open_still).problems == [
        f"{CUT}'s session is Running"
    ]
    assert Trial(state="Completed").problems == [
        "no attempt succeeded without a firewall: they show nothing",
        f"{CUT} did not come back",
    ]


def test_the_report_tells_each_round(capsys):
    seen = Trial({"host to va": False}, "Completed", rounds(), {"held back": 4}, {CUT: "Completed"})
    summary.report(None, seen)
    said = capsys.readouterr().out
    assert "| 3 | 3.0 | yes | done | done | done | absent |" in said
    assert f"Together: done 38, absent 2. Sessions: {CUT} Completed." in said
    assert "| host to va | no |" in said


def test_the_certificate_is_of_the_proxys_address(tmp_path):
    certificate, key = make_certificate(tmp_path)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    trust = ssl.create_default_context(cafile=str(certificate))
    assert len(trust.get_ca_certs()) == 1
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)


@pytest.mark.slow
def test_a_site_is_reached_by_nobody(monkeypatch):
    if lacks := links.missing():
        pytest.skip("; ".join(lacks))
    monkeypatch.setattr(links, "PROBE_SECONDS", 0.5)
    with (
        links.linked(["ward", "clinic"], "clinic", 0.05, 1e6) as (both, tried),
        socket.create_server((links.PROXY, links.API_PORT)),
        socket.create_server((links.PROXY, 9999)),
    ):
        for way, reached in tried.items():
            assert reached == ("no firewall yet" in way), way
        proxy = [(links.PROXY, links.API_PORT), (links.PROXY, 9999)]
        assert [link.reaches(proxy) for link in both] == [[True, False], [True, False]]
        both[0].cut()
        assert both[0].reaches(proxy[:1]) == [False] and both[1].reaches(proxy[:1]) == [True]
        both[0].mend()
        assert both[0].reaches(proxy[:1]) == [True]
        with pytest.raises(RuntimeError, match="Another network trial"), links.linked([], "", 0, 1):
            pass
