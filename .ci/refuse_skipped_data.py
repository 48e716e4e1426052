"""Fail when a test was skipped for want of real data or a server: a green run has seen them."""

import sys
from xml.etree import ElementTree

WANTED = ("FEDLOOM_DATA", "is not installed", "needs PostgreSQL")

skipped = [
    f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}"
    for case in ElementTree.parse(sys.argv[1]).iter("testcase")
    for skip in case.iter("skipped")
    if any(word in (skip.get("message") or "") + (skip.text or "") for word in WANTED)
]
if skipped:
    print("Skipped for want of real data (FEDLOOM_DATA) or of a program:", *skipped, sep="\n  ")
    sys.exit(1)
