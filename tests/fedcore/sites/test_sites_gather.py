"""What an operator reads while sites are asked, and what there is to read."""

from types import SimpleNamespace

import pytest

from fedcore.config import make_config
from fedcore.data.download import DataNotFound
from fedcore.sites import gather
from fedcore.sites.admit import Told
from fedcore.sites.codes import WORDS, Code, code_of
from fedcore.sites.gather import Gathering, TooFewSites, Waiting
from fedcore.sites.refusal import Reason
from fedcore.sites.wanted import Wanted


@pytest.fixture
def clock(monkeypatch):
    """Time that passes while somebody sleeps."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(gather, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


@pytest.fixture
def ask(clock, monkeypatch):
    """Asks sites that say these codes, or nothing; returns what the operator read."""

    def asked(codes, enough=1, join=100.0, limit=400.0):
        def lane(site):
            return SimpleNamespace(
                announce=lambda said: None,
                answer=lambda key, attempt: site if codes[site] is not None else None,
                fetch=None,
                run="run",
                site=SimpleNamespace(identity=site),
                coordinator=None,
            )

        monkeypatch.setattr(
            gather, "admit_facts", lambda data, *_, **words: Told(None, codes[words["site"]])
        )
        heard = []
        lanes = {site: lane(site) for site in codes}
        gathering = Gathering(lanes, Waiting(enough, join, limit), heard.append)
        try:
            gathering.statistics(make_config({}), "00" * 32, Wanted(("age",)))
        except TooFewSites as error:
            heard.append(str(error))
        return heard

    return asked


def test_who_is_waited_for_is_told_seldomer_and_seldomer(ask):
    first, *lines, last = ask({"north": None, "south": None})
    assert first == "asking 2 sites to tell statistics of their columns" and len(lines) == 5
    for line in lines:  # after 15, 30, 60, 120 and 240 of 400 s
        assert line.startswith("0 of 2 sites have answered; waiting for north, south to tell ")
    assert lines[0].endswith((" 6 min 25 s at most", " 6 min 24 s at most"))
    assert "north: no answer; south: no answer" in last and "0 of 2 sites take part" in last


def test_a_no_is_told_once_in_words_and_who_does_not_take_part_with_why(ask):
    lines = ask({"north": Code.WORK_FAILED, "south": Code.NOT_APPROVED, "west": Reason.SIGNATURE})
    said = "its administrator has not approved this run yet (not_approved)"
    assert lines.count(f"site south: {said}; it is asked again") == 1
    assert f"site south does not take part: {said}" in lines
    assert "site west does not take part: what it sent was refused (signature)" in lines
    assert lines[-1] == "1 of 3 sites have answered"  # north, that it has no table


def test_each_code_has_its_words():
    assert set(WORDS) == set(Code) and len(set(WORDS.values())) == len(Code)


def test_data_that_are_not_there_have_a_code_of_their_own():
    assert code_of(DataNotFound("patients/1951.csv is not there")) is Code.DATA_NOT_FOUND
