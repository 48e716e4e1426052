"""The rights that docs/mailbox.md gives a site are those that it needs, and no others."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from fedcore.sites.identity import new_identity
from fedcore.sites.mailbox import Lane, models

TEXT = (Path(__file__).parents[2] / "docs" / "mailbox.md").read_text(encoding="utf-8")
POLICY, LIFECYCLE = map(json.loads, re.findall(r"```json\n(.*?)```", TEXT, flags=re.S))
COORDINATOR = new_identity("coordinator")


def allowed(action, key):
    """As S3 decides: what no statement allows is denied."""
    return any(
        fnmatchcase(f"arn:aws:s3:::federation/{key}", pattern)
        for statement in POLICY["Statement"]
        if (statement["Effect"], statement["Action"]) == ("Allow", action)
        for pattern in statement["Resource"]
    )


def names(site):
    lane = Lane.between(new_identity(site), COORDINATOR.public, site=site, run="a-run", opening=1)
    told = [lane.announcement(number) for number in (1, 2)]
    left = [lane.reply("job"), lane.reply("job", 1), f"{lane.outbox}/{'0' * 64}"]
    return told, left


def test_a_site_may_do_what_it_does():
    told, left = names("north")
    assert all(allowed("s3:GetObject", name) for name in [*told, *left])
    assert all(allowed("s3:PutObject", name) for name in left)
    assert allowed("s3:GetObject", f"{models('a-run')}/{'0' * 64}")


@pytest.mark.parametrize("sister", ["south", "north-2", "north.", "nort", "North"])
def test_a_sisters_names_are_out_of_reach(sister):
    told, left = names(sister)
    for name in [*told, *left]:
        assert not allowed("s3:GetObject", name) and not allowed("s3:PutObject", name)


def test_a_site_writes_nothing_else_lists_nothing_and_removes_nothing():
    for name in [*names("north")[0], f"{models('a-run')}/x", "from/north", "to/north/x", "x"]:
        assert not allowed("s3:PutObject", name)
    assert {one["Action"] for one in POLICY["Statement"]} == {"s3:GetObject", "s3:PutObject"}
    assert not allowed("s3:GetObject", "")
    writes = next(one for one in POLICY["Statement"] if one["Action"] == "s3:PutObject")
    assert writes["Condition"] == {"Null": {"s3:if-none-match": "false"}}


def test_old_messages_go_everywhere():
    (rule,) = LIFECYCLE["Rules"]
    assert rule["Status"] == "Enabled" and rule["Filter"] == {"Prefix": ""}
    assert rule["Expiration"]["Days"] >= 7
