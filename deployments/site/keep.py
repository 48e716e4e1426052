"""Sites' workers under supervisord, which starts again what dies and keeps their logs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from deployments.stack.services import Service
from deployments.stack.supervision import supervisor, supervisor_config
from fedcore.sites.folder import SiteFolder

# Of this machine a worker gets what a Python process needs, and where its data and caches are.
PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH"),
    *("FEDLOOM_DATA", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
    *("SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY"),
)
OWN_CREDENTIALS = ("AWS_", "FSSPEC_")  # of the site's part of the mailbox


def worker_of(site: SiteFolder) -> Service:
    """The worker of a site; raises SiteError."""
    command = (sys.executable, "-m", "deployments.site.worker", str(site.path.resolve()))
    return Service(site.settings.name, command, starts_by_itself=True, order=1, stop_seconds=15)


def configured(folder: Path, sites: Sequence[SiteFolder]) -> Path:
    """supervisord's configuration for the workers of sites, written into ``folder``."""
    folder = folder.resolve()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    path = folder / "supervisord.conf"
    path.write_text(supervisor_config(folder, tuple(worker_of(site) for site in sites)))
    return path


def command(config: Path, *, foreground: bool) -> list[str]:
    """What starts supervisord."""
    words = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    return [*words, "--nodaemon"] if foreground else words


def environment(outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of supervisord and the workers: nothing of another Prefect, no other secret."""
    kept = {
        name: value
        for name, value in outer.items()
        if name in PASSED_ON or name.startswith(OWN_CREDENTIALS)
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def start(folder: Path, sites: Sequence[SiteFolder]) -> None:
    """Starts the workers in the background.

    Raises:
      RuntimeError: supervisord did not start; with its words.
    """
    done = subprocess.run(
        command(configured(folder, sites), foreground=False),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"supervisord did not start: {(done.stdout + done.stderr).strip()}")


def end(folder: Path) -> None:
    """Ends supervisord of this folder and the workers, and waits until they are gone.

    Raises:
      psutil.TimeoutExpired: they are not, after a minute.
    """
    keeper = supervisor(folder)
    process = psutil.Process(keeper.getPID())
    keeper.shutdown()
    process.wait(60)


def serve(site: SiteFolder) -> None:
    """This process becomes the supervisor of the site's worker, until it is told to end."""
    words = command(configured(site.path, [site]), foreground=True)
    os.execve(words[0], words, environment())
