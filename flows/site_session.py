"""A site's part in a run: a flow run on the site's own worker, as long as the run lasts."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from fedcore.sites.codes import code_of
from fedcore.sites.session import Session, attend
from tasks.site_work import AtSite, as_task, attended

LOG = logging.getLogger("fedloom.site")


@flow(name="site-session", persist_result=False)
def site_session(run: str, opening: int = 1) -> State[Any]:
    """Attends a run for this site until the run is over.

    Args:
        run: Id of the run.
        opening: How often the run was taken up, from 1.
    """
    here = attended()
    try:
        session = Session(here.site, run, opening, work=as_task)
        attend([session], here.stop.is_set)
    except Exception as error:
        LOG.exception("%s: the session failed.", run)
        raise AtSite(code_of(error).value) from None
    if session.closed:
        return Completed(message="The run is over.")
    return Cancelled(message="The session was ended.")
