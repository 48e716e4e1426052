"""The deployments of ``prefect.yaml``, registered with a stack's Prefect server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import yaml

from deployments.stack.stack import Stack, StackError, environment
from deployments.steps import PROJECT

FLOW = "train-federated"
CUSTOM = "custom"


def deployment_names() -> tuple[str, ...]:
    """The names in ``prefect.yaml``, of all flows."""
    values = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    return tuple(deployment["name"] for deployment in values["deployments"])


def register(stack: Stack) -> str:
    """Register all deployments, by Prefect's own command. Returns what it said.

    Raises:
      StackError: the command failed; its output is in the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=PROJECT,
        env={**os.environ, **environment(stack), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    created = done.stdout.count("successfully created")
    # The command skips an entry that it does not understand, and ends well.
    if done.returncode or created != len(deployment_names()):
        raise StackError(
            f"`prefect deploy --all` registered {created} of {len(deployment_names())} "
            f"deployments:\n{done.stdout.strip()[-3000:]}"
        )
    (stack.home / "deployed").write_text(_sources_digest())
    return done.stdout


def ensure_registered(stack: Stack) -> bool:
    """Register when what the deployments are made of has changed since. Returns whether it did."""
    stamp = stack.home / "deployed"
    if stamp.exists() and stamp.read_text() == _sources_digest():
        return False
    register(stack)
    return True


def _sources_digest() -> str:
    """Of prefect.yaml, the configs, and the sources that decide flow parameters and their form."""
    digest = hashlib.sha256()
    folders = ("configs", "flows", "fedcore", "deployments")
    files = [PROJECT / "prefect.yaml"]
    for folder in folders:
        files += sorted(
            path for path in (PROJECT / folder).rglob("*") if path.suffix in {".py", ".yaml"}
        )
    for path in files:
        digest.update(f"{path.relative_to(PROJECT)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
