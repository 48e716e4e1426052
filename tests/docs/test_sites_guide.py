"""docs/sites.md: every block is run, in order; between two of them a coordinator starts a run."""

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.config import load_config
from fedcore.numerics import code_digest
from fedcore.sites.announcement import Announcement, Ask
from fedcore.sites.codes import WORDS, Code
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.folder import SiteFolder
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.request import Request
from fedcore.sites.run import invite
from fedcore.sites.session import Session
from tasks import home

PAGE = Path(__file__).parents[2] / "docs" / "sites.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- (The test .*?) -->$", re.MULTILINE | re.DOTALL)
RUN = "readmission-1"


def run_console(text, said):
    """Runs the commands that a reader would type; questions are answered with yes."""
    for line in text.splitlines():
        command, _, file = line.partition(" > ")
        program, *arguments = shlex.split(command)
        if program == "export":
            name, _, value = arguments[0].partition("=")
            os.environ[name] = value
            continue
        assert program == "fedloom", f"{line}: nothing else is run"
        done = CliRunner().invoke(app, arguments, input="y\n")
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
        said.append((line, done.output))
        if file:
            Path(file).write_text(done.stdout)


def plain(line):
    """A line without what another day, folder or release writes otherwise."""
    line = re.sub(r"\b[0-9a-f]{12,64}(\.\.\.)?", "DIGEST", line)
    return re.sub(r"\d{4}-\d\d-\d\d|(?<=--folder )\S+", "", line)


class Run:
    """The coordinator asks the site about its data; the site's session answers."""

    def __init__(self):
        config = load_config("readmission.yaml")
        site = SiteFolder(Path("north").absolute())
        invited = invite(config, Coordinator(home.coordinator()), site.mailbox, RUN)
        inquiry = Inquiry(config.audit, config.preprocessing.standardise, invited.salt)
        request = Request(config, code_digest(), inquiry)
        self.said = Announcement(Ask.AUDIT, facts=request.to_json())
        self.lane = invited.lanes["north"]
        self.session = Session(site, RUN)

    def ask(self, attempt):
        said = Announcement(Ask.AUDIT, attempt=attempt, facts=self.said.facts)
        self.lane.announce(said)
        assert self.session.step()
        assert self.lane.answer(said.key, attempt) is not None


@pytest.mark.slow
def test_every_block_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FEDLOOM_HOME", "FEDLOOM_SITE"):
        monkeypatch.setenv(name, "replaced by the page")
    said, run, attempts = [], None, 0
    for language, text, happens in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if happens:
            run = run or Run()
            run.ask(attempts)
            attempts += 1
        elif language == "console":
            run_console(text, said)
        elif language == "yaml":
            first = text.splitlines()[0]
            assert re.fullmatch(r"# [a-z]+(/[a-z]+)?\.yaml", first), f"{first}: names the file"
            Path(first[2:]).write_text(text)
        elif language == "text":
            line, output = said[-1]
            shown = {plain(one) for one in text.splitlines()} - {"..."}
            assert not shown - {plain(one) for one in output.splitlines()}, f"{line}\n{output}"
        else:
            exec(compile(text, f"{PAGE.name}: {text[:40]!r}", "exec"), {})
    assert attempts == 2
    shown = [output for line, output in said if line == "fedloom site status"]
    assert f"{RUN}  asks for approval" in shown[1] and f"{RUN}  approved" in shown[2]
    assert "answers 1, in rounds 1, refusals 1" in shown[2]
    previews = [output for line, output in said if line.startswith("fedloom site preview")]
    assert "delta." in previews[1] and "audit: nothing" not in previews[0]


def test_page_shows_what_fails():
    """The runner itself can fail: a command that does not work is noticed."""
    with pytest.raises(AssertionError, match="absent"):
        run_console("fedloom site status --folder absent", [])


def test_every_code_is_explained():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {code: words for code, words in rows if code in set(Code)} == WORDS
