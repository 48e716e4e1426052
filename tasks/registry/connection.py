"""A client of one MLflow server, and one exception for a server that does not answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEALTH_TIMEOUT_SECONDS = 5.0

# MLflow reads these at each use. By default it prints links and bars, and asks a dead server
# eight times over minutes; the flow's own retries are the ones that the operator sees.
QUIET_AND_QUICK = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


class RegistryUnavailable(RuntimeError):
    """MLflow cannot be reached or cannot write. The same call later completes what is missing."""


@contextmanager
def registry(tracking_uri: str) -> Iterator[MlflowClient]:
    """A thread-safe client bound to ``tracking_uri`` alone; MLflow's global URIs are not used.

    Args:
      tracking_uri: ``http://...`` of a server or ``sqlite:///...``; also the model registry.

    Raises:
      RegistryUnavailable: no answer, now or during the scope. A dead server is found in seconds by
        its health page; MLflow's own retries would take minutes to give up.
    """
    import requests
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    for name, value in QUIET_AND_QUICK.items():
        os.environ.setdefault(name, value)
    try:
        if tracking_uri.startswith(("http://", "https://")):
            requests.get(
                f"{tracking_uri.rstrip('/')}/health", timeout=HEALTH_TIMEOUT_SECONDS
            ).raise_for_status()
        yield MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except (requests.RequestException, ConnectionError, OperationalError) as error:
        raise _unavailable(tracking_uri, error) from error
    except MlflowException as error:
        # The client wraps a refused connection, and the store a failing database, in its own type.
        if error.error_code in _SERVER_FAULTS or isinstance(error.__cause__, OperationalError):
            raise _unavailable(tracking_uri, error) from error
        raise


_SERVER_FAULTS = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


def _unavailable(tracking_uri: str, error: Exception) -> RegistryUnavailable:
    reason = " ".join(str(error).split())[:300]
    return RegistryUnavailable(
        f"MLflow at {tracking_uri} does not answer or cannot write: {reason} "
        "The run itself is kept; start MLflow (make up) and log it again: a retry completes what "
        "is missing and never makes a second version."
    )
