"""What the README says is there: its commands, its tree, its pictures, its links."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def fedloom_lines():
    return [
        shlex.split(line, comments=True)[1:]
        for line in re.findall(r"^    \.venv/bin/(fedloom .*)$", TEXT, flags=re.M)
    ]


@pytest.mark.parametrize("words", fedloom_lines(), ids=" ".join)
def test_every_command_parses(words):
    from deployments.cli.main import app

    command = typer.main.get_command(app)
    context = command.make_context("fedloom", [*words], resilient_parsing=True)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
        context = command.make_context(command.name, [*words], parent=context)
    assert context.command is command


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"`?make ([a-z]+)", TEXT))
    assert {"demo", "test", "down"} <= targets
    assert [t for t in targets if not re.search(rf"^{t}:", makefile, flags=re.M)] == []


def test_links_and_pictures_are_there():
    links = [at for at in re.findall(r"\]\(([^)#]+)\)", TEXT) if not at.startswith("http")]
    assert len(links) > 3
    assert [at for at in links if not (ROOT / at).exists()] == []


def test_the_tree_is_the_tree():
    tree = TEXT.partition("## The tree")[2].partition("\n\nAny `torch")[0]
    folder, missing = ROOT, []
    for line in re.findall(r"^ {4}( *\S.*)$", tree, flags=re.M):
        names = re.match(r"(?:\S+ )*\S+", line.strip()).group().split()
        names = [n for n in names if re.fullmatch(r"[\w./-]+(/|\.py|\.yaml)", n.rstrip(","))]
        if not line.startswith(" "):
            folder = ROOT / names[0]
            missing += [n for n in names if not (ROOT / n).exists()]
        else:
            missing += [n for n in names if not (folder / n).exists()]
    assert missing == []
