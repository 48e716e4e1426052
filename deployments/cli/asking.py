"""An operator's decision on the terminal, for runs in this process."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fedcore.decisions import Answer, Question
    from fedcore.plan import RunPlan
    from fedcore.questions import Ask


def asking(run_id: str) -> Ask:
    """Asks on the terminal until the answer can be carried out.

    What it returns raises ApprovalNeeded where there is no terminal.
    """
    from fedcore.decisions import AnswerRefused, ApprovalNeeded, check_answer

    def ask(plan: RunPlan, question: Question) -> Answer:
        if not sys.stdin.isatty():
            raise ApprovalNeeded(
                f"{question.asks} Here is no terminal to ask on. Answer on one: fedloom run "
                f"--resume {run_id} --in-process; or leave out --in-process and answer with "
                "fedloom approve; or change the approvals section."
            )
        while True:
            answer = _prompt(question)
            try:
                check_answer(question, answer)
            except AnswerRefused as error:
                typer.echo(f"Not taken: {error}")
            else:
                return answer

    return ask


def _prompt(question: Question) -> Answer:
    import click

    from fedcore.decisions import Answer, Verdict

    typer.echo(question.asks)
    choices = [verdict.value for verdict in question.verdicts]
    verdict = Verdict(typer.prompt("Decision", type=click.Choice(choices)))
    clients: tuple[str, ...] = ()
    if verdict is Verdict.DROP:
        named = typer.prompt(f"Which of {', '.join(question.clients)}")
        clients = tuple(named.replace(",", " ").split())
    who = typer.prompt("Who", default=getpass.getuser())
    return Answer(verdict, who, typer.prompt("Why"), clients)
