"""The one way in: nginx with a certificate of its own before the gateway and the object store."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.network.links import API_PORT, PROXY, STORE_PORT
from deployments.stack.ports import choose_port
from deployments.stack.proxy import (
    check_proxy,
    gateway_config,
    proxy_command,
    site_config,
    write_proxy,
)
from deployments.stack.stack import LOOPBACK, Stack

API, STORE = f"https://{PROXY}:{API_PORT}/api", f"https://{PROXY}:{STORE_PORT}"
MOST_BYTES = 2**20
START_SECONDS = 10.0
STORE_BLOCK = """
map $remote_addr $fedloom_store {
    default @STORE@;
    @ADDRESS@ @OTHER@;
}
server {
    listen @LISTEN@ ssl;
    ssl_certificate @CERTIFICATE@;
    ssl_certificate_key @KEY@;
    server_tokens off;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    location / {
        proxy_pass http://$fedloom_store;
        proxy_set_header Host $http_host;
    }
}
"""


@dataclass(frozen=True)
class Stores:
    """Where the object store is, as HOST:PORT.

    Attributes:
      usual: for all sites.
      address: the one site's, for which it is ``other``.
    """

    usual: str
    address: str
    other: str


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """PEM files of a certificate for the proxy's address that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fedloom network trial")])
    begin = datetime.now(UTC) - timedelta(hours=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(PROXY))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(encoding))
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files


@contextmanager
def entrance(folder: Path, stack: Stack, stores: Stores) -> Iterator[Path]:
    """nginx at the proxy's address until the block ends.

    Yields:
      the certificate that sites have to trust.

    Raises:
      StackError: nginx is not installed, or refuses its configuration.
    """
    folder.mkdir(parents=True)
    certificate, key = make_certificate(folder)
    public = replace(stack, public_url=f"https://{PROXY}")
    pages = f"{LOOPBACK}:{choose_port(8444)}"
    config = site_config(public, pages, "default-src 'self'", certificate=certificate, key=key)
    config += gateway_config(
        public, f"{PROXY}:{API_PORT}", MOST_BYTES, certificate=certificate, key=key
    )
    values = {
        "STORE": stores.usual,
        "ADDRESS": stores.address,
        "OTHER": stores.other,
        "LISTEN": f"{PROXY}:{STORE_PORT}",
        "CERTIFICATE": str(certificate),
        "KEY": str(key),
    }
    block = STORE_BLOCK
    for name, value in values.items():
        block = block.replace(f"@{name}@", value)
    main = write_proxy(folder / "nginx", config + block)
    check_proxy(main)
    with subprocess.Popen(proxy_command(main), stderr=subprocess.DEVNULL) as process:
        try:
            _await(folder / "nginx" / "nginx.pid")
            yield certificate
        finally:
            process.terminate()


def _await(path: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while not path.exists():
        if time.monotonic() > ends:
            raise RuntimeError(f"nginx did not start; see {path.with_name('error.log')}.")
        time.sleep(0.05)
