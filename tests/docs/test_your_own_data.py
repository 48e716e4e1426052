"""docs/your-own-data.md: every block is run, in order, in an empty folder."""

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.config import load_config
from fedcore.data.settings import Arrays, ImageFolder, Table, Text

PAGE = Path(__file__).parents[2] / "docs" / "your-own-data.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_console(text):
    """Runs the commands that a reader would type."""
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        if program == "export":
            name, _, value = arguments[0].partition("=")
            os.environ[name] = value
        else:
            assert program == "fedloom", f"{line}: nothing else is run"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


def test_every_block_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDLOOM_DATA", "replaced by the page")
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"python", "yaml", "console"}
    names = {}
    kinds = []
    for language, text in blocks:
        if language == "console":
            run_console(text)
        elif language == "yaml":
            first = text.splitlines()[0]
            assert re.fullmatch(r"# [a-z]+\.yaml", first), f"{first}: names the file"
            Path(first[2:]).write_text(text)
            kinds.append(type(load_config(first[2:]).data))
        else:
            exec(compile(text, f"{PAGE.name}: {text[:40]!r}", "exec"), names)
    assert kinds == [Table, Text, Text, Arrays, ImageFolder]


def test_page_shows_what_fails(tmp_path, monkeypatch):
    """The runner itself can fail: a command that does not work is noticed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"absent\.yaml"):
        run_console("fedloom validate absent.yaml")
