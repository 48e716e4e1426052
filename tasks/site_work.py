"""A site's jobs as Prefect tasks. Of what they do only their label and a code reach the API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from fedcore.execute import execute
from fedcore.jobs import ClientJob
from fedcore.outcomes import ClientOutcome, Done, Failed
from fedcore.privacy.owner import Owner
from fedcore.sites.codes import Code, code_of
from fedcore.sites.folder import SiteFolder
from fedcore.store import Store

LOG = logging.getLogger("fedloom.site")
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Attending:
    """What a site's worker gives its session.

    Attributes:
      site: the folder; never a parameter, which a coordinator could choose.
      stop: set when the session is to end.
    """

    site: SiteFolder
    stop: threading.Event = field(default_factory=threading.Event)


_ATTENDING: ContextVar[Attending] = ContextVar("attending")


@contextmanager
def attending(what: Attending) -> Iterator[None]:
    """Sessions of this thread belong to this site."""
    token = _ATTENDING.set(what)
    try:
        yield
    finally:
        _ATTENDING.reset(token)


def attended() -> Attending:
    """The site of this thread.

    Raises:
      LookupError: a session was started by something else than a site's worker.
    """
    try:
        return _ATTENDING.get()
    except LookupError:
        raise LookupError(
            "site-session runs at a site only: start `fedloom site serve` there."
        ) from None


class AtSite(RuntimeError):
    """Why a job or a session ended; the message is one code, since it is shown elsewhere."""


def as_task(job: ClientJob, store: Store, cache: Path, owner: Owner) -> ClientOutcome:
    """A job as a task of the session's flow run, one at a time in this process."""
    kept: list[ClientOutcome | BaseException] = []

    def work() -> Code | None:
        try:
            with _ONE_AT_A_TIME:
                kept.append(outcome := execute(job, store, cache, owner))
        except Exception as error:
            kept.append(error)
            return code_of(error)
        return None if isinstance(outcome, Done) else Code.WORK_FAILED

    run_at_site(f"round-{job.round}/{job.kind}", work, return_state=True)
    found = kept[-1] if kept else Failed(job.client, job.key, Code.WORK_FAILED)
    if isinstance(found, BaseException):
        raise found
    return found


@task(name="client", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def run_at_site(label: str, work: Callable[[], Code | None]) -> None:
    """One job. What it gives stays in this process: only the session's gate lets anything out."""
    if (code := work()) is not None:
        raise AtSite(code.value) from None
