"""An S3 server on loopback for tests and benchmarks: moto's, one request at a time.

One at a time because moto looks and writes in two steps: only so is its conditional PUT what S3
promises. Debian's radosgw was considered: release 16 needs a cluster of its own behind it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "moto-asks-for-none"}


@contextmanager
def s3_server() -> Iterator[str]:
    """A server until the block ends, empty at first; its URL for ``AWS_ENDPOINT_URL``."""
    command = [sys.executable, "-m", "benchmarks.s3_server"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if not (url := process.stdout.readline().strip()):
                raise RuntimeError(f"{' '.join(command)} did not start; run it to see why.")
            yield url
        finally:
            process.terminate()


def environment(url: str) -> dict[str, str]:
    """What a client of the server has in its environment."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": REGION}


def make_bucket(name: str) -> None:
    """A bucket at the server of the environment."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # those kept ask the server before
    s3fs.S3FileSystem().mkdir(name)


def main() -> None:
    """Serves until it is ended."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    print(f"http://127.0.0.1:{server.port}", flush=True)  # its log goes to stderr
    server.serve_forever()


if __name__ == "__main__":
    main()
