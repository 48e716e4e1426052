"""Fail when a test was skipped for want of real data: a green run must have seen them."""

import sys
from xml.etree import ElementTree

skipped = [
    f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}"
    for case in ElementTree.parse(sys.argv[1]).iter("testcase")
    for skip in case.iter("skipped")
    if "FEDLOOM_DATA" in (skip.get("message") or "") + (skip.text or "")
]
if skipped:
    print("Skipped for want of real data (set FEDLOOM_DATA):", *skipped, sep="\n  ")
    sys.exit(1)
