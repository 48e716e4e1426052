"""The stack's worker: first it settles what an earlier worker left, then it is Prefect's own."""

from __future__ import annotations

import os
import sys
import time

import httpx
from prefect.exceptions import PrefectHTTPStatusError

from deployments.stack.recovery import recover

SECONDS_BETWEEN = 1.0


def main() -> None:
    """``python -m deployments.stack.worker POOL [words for prefect worker start]``."""
    pool, *words = sys.argv[1:]
    while True:
        try:
            settled = recover(pool)
            break
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            # After a power cut everything starts at once.
            print(f"worker: Prefect's server does not answer yet ({error!r})", flush=True)
            time.sleep(SECONDS_BETWEEN)
    for one in settled:
        print(f"worker: {one.name} ({one.id}): {one.action}", flush=True)
    start = (sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", pool)
    # The same process, so that supervisord keeps what it started.
    os.execv(sys.executable, [*start, *words])


if __name__ == "__main__":
    main()
