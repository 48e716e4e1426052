"""Object stores behind fsspec: one conditional PUT, bounded reads, errors with a way out.

A folder needs none of this. ``If-None-Match: *`` is RFC 9110, section 13.1.2; the codes are those
of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import fsspec

# One PUT takes at most so much; what is sent in parts is conditional on few servers.
MOST_BYTES = 5 * 2**30
# Two conditional writes at the same moment: the server decides neither, and wants one repeated.
CONFLICT, CONFLICT_ATTEMPTS, CONFLICT_PAUSE = {"ConditionalRequestConflict", "409"}, 5, 0.1

TAKEN = {"PreconditionFailed", "412"}
DENIED = {"AccessDenied", "403", "Forbidden"}
EMPTY = {"InvalidRange", "416"}
MISSING = {"NoSuchKey", "NoSuchVersion", "404"}
LATER = {"SlowDown", "RequestTimeout", "OperationAborted", *CONFLICT}
CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
}
CODE = re.compile(r"[A-Za-z0-9]{1,64}")

_MEMORY = threading.Lock()


class StoreUnreachable(ConnectionError):
    """The store does not answer, or not now; later it may."""


class NameDenied(PermissionError):
    """The credentials do not reach this name: another's, or, without the right to list, a name
    under which there is nothing."""


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it; listings are not cached, others write too.

    Raises:
      ImportError: its package is not installed.
    """
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ImportError(
            f"url={url!r} needs a package that is not installed; for S3: pip install 'fedloom[s3]'."
        ) from error


def write(fs: Any, path: str, data: bytes, *, exclusive: bool) -> None:
    """Writes an object whole, by one request.

    Raises:
      FileExistsError: ``exclusive`` and it is there; the server saw to it.
      ValueError: more bytes than one request takes.
    """
    if len(data) >= MOST_BYTES:
        raise ValueError(f"{len(data)} bytes for {path}; one object has less than {MOST_BYTES}.")
    mode = "create" if exclusive else "overwrite"
    for attempts_left in reversed(range(CONFLICT_ATTEMPTS)):
        try:
            with explained("write", path), _one_at_a_time(fs):
                fs.pipe_file(path, data, mode=mode, chunksize=MOST_BYTES)
            return
        except StoreUnreachable as error:
            if not attempts_left or _code(error) not in CONFLICT:
                raise
            time.sleep(CONFLICT_PAUSE)


def read_start(fs: Any, path: str, count: int) -> bytes:
    """The first ``count`` bytes of an object; no more are asked for.

    Raises:
      FileNotFoundError: there is none.
    """
    try:
        with explained("read", path):
            return fs.cat_file(path, start=0, end=count)
    except OSError as error:
        if _code(error) in EMPTY:  # an empty object has no first byte
            return b""
        raise


def _one_at_a_time(fs: Any) -> AbstractContextManager[object]:
    """The memory backend looks and writes in two steps."""
    return _MEMORY if fs.protocol == "memory" else nullcontext()


@contextmanager
def explained(doing: str, path: str) -> Iterator[None]:
    """Errors of the block say what could not be done, where, and the way out.

    Raises:
      StoreUnreachable: no answer, or a server that is busy.
      NameDenied: the credentials do not allow it.
      FileExistsError: a conditional write found the name taken.
      OSError: anything else that the server says no to; a person has to look.
    """
    try:
        yield
    except Exception as error:
        better = _better(error, f"cannot {doing} {path}: ")
        if better is None:
            raise
        raise better from error


def _better(error: Exception, start: str) -> OSError | None:
    code = _code(error)
    if not code:
        return _without_answer(error, start)
    if code in MISSING | EMPTY:
        return None
    if code in TAKEN:
        return FileExistsError(f"{start}the name is taken.")
    if code in DENIED:
        return NameDenied(
            f"{start}the credentials do not allow it; docs/mailbox.md has the policy."
        )
    if code in LATER or code.startswith("5") or code in {"InternalError", "ServiceUnavailable"}:
        return StoreUnreachable(f"{start}the server is busy ({code}); try again later.")
    if code == "NoSuchBucket":
        return OSError(f"{start}there is no such bucket; make it, or mend the URL.")
    if code in CREDENTIALS:
        return OSError(
            f"{start}the server does not accept the credentials ({code}); renew AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials, and look at the clock."
        )
    return OSError(f"{start}the server says {code}; see its log.")


def _without_answer(error: Exception, start: str) -> OSError | None:
    botocore = sys.modules.get("botocore.exceptions")
    if botocore and isinstance(
        error, botocore.NoCredentialsError | botocore.PartialCredentialsError
    ):
        return OSError(
            f"{start}there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "write ~/.aws/credentials."
        )
    is_silent = botocore and isinstance(
        error, botocore.HTTPClientError | botocore.ConnectionError | botocore.IncompleteReadError
    )
    if is_silent or isinstance(error, TimeoutError | ConnectionError):
        return StoreUnreachable(
            f"{start}no answer from the server; see that it runs, and AWS_ENDPOINT_URL."
        )
    return None


def _code(error: BaseException | None) -> str:
    """What the server answered, '' if it did not; '?' if that is no code."""
    while error is not None:
        if isinstance(response := getattr(error, "response", None), dict):
            code = str(response.get("Error", {}).get("Code", ""))
            return code if CODE.fullmatch(code) else "?"
        error = error.__cause__
    return ""
