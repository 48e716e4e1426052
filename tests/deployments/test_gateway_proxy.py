"""The gateway behind a real nginx: TLS, its own port, nothing else there."""

import json
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from deployments.gateway.app import make_app
from deployments.gateway.limits import Limits
from deployments.gateway.tokens import Tokens, tokens_file
from deployments.stack.proxy import (
    check_proxy,
    find_nginx,
    gateway_config,
    proxy_command,
    site_config,
    write_proxy,
)
from deployments.stack.stack import LOOPBACK, Stack, StackError

NAME = "fl.example"


@pytest.fixture
def nginx():
    try:
        return find_nginx()
    except StackError as missing:
        pytest.skip(str(missing))


def self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    begin = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files = {"certificate": folder / "c.pem", "key": folder / "k.pem"}
    files["certificate"].write_bytes(certificate.public_bytes(encoding))
    files["key"].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def served(tokens):
    """A gateway before an API that says its release; the server and its port."""
    api = Starlette(routes=[Route("/admin/version", lambda request: JSONResponse("3.8.8"))])
    client = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api")
    app = make_app(tokens, Limits(), client)
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return server, thread, server.servers[0].sockets[0].getsockname()[1]


def await_listening(port, process):
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(process.stderr.read())


def test_sites_reach_the_gateway_over_tls_and_nothing_else(nginx, tmp_path):
    tokens = Tokens(tokens_file(tmp_path))
    token = tokens.issue("own")
    server, thread, gateway_port = served(tokens)
    stack = Stack(tmp_path, 1, 2, public_url=f"https://{NAME}", gateway_port=gateway_port)
    files, port = self_signed(tmp_path), free_port()
    site = site_config(stack, f"{LOOPBACK}:{free_port()}", "default-src 'self'", **files)
    site += gateway_config(stack, f"{LOOPBACK}:{port}", 4096, **files)
    main = write_proxy(tmp_path / "proxy", site)
    check_proxy(main)
    process = subprocess.Popen(proxy_command(main), stderr=subprocess.PIPE)
    try:
        await_listening(port, process)
        trust = ssl.create_default_context(cafile=str(files["certificate"]))
        bearer = {"Authorization": f"Bearer {token}"}

        def ask(path, *, host=NAME, headers=bearer, **words):
            url = f"https://{LOOPBACK}:{port}{path}"
            how = {"extensions": {"sni_hostname": NAME}, "headers": {"Host": host, **headers}}
            with httpx.Client(verify=trust, trust_env=False) as client:
                return client.request("POST" if words else "GET", url, **how, **words)

        assert ask("/api/admin/version").json() == "3.8.8"
        assert ask("/api/admin/version", headers={}).status_code == 401
        assert ask("/api/flow_runs/filter", content=b"x" * 4097).status_code == 413
        assert ask("/api/variables/filter", content=b"{}").status_code == 403
        for path in ("/", "/alive", "/mlflow/", "/api/../alive", "/api/%2e%2e/alive"):
            assert ask(path).status_code == 403, path
        assert ask("/api/admin/version", host="evil.example").status_code == 421
        with httpx.Client(trust_env=False) as plain:
            assert plain.get(f"http://{LOOPBACK}:{port}/api/admin/version").status_code == 400

        def stream(headers):
            way = {"sock": socket.create_connection((LOOPBACK, port)), "ssl": trust, "proxy": None}
            url = f"wss://{NAME}/api/events/in"
            return connect(url, subprotocols=["prefect"], additional_headers=headers, **way)

        with stream(bearer) as events:
            events.send(json.dumps({"type": "auth"}))
            assert json.loads(events.recv()) == {"type": "auth_success"}
        with pytest.raises(InvalidStatus):
            stream({})
    finally:
        process.terminate()
        process.wait(10)
        server.should_exit = True
        thread.join(10)


def test_a_gateway_without_tls_is_refused(tmp_path):
    stack = Stack(tmp_path, 1, 2, public_url="http://fl.example", gateway_port=3)
    with pytest.raises(StackError, match="over TLS only: --certificate and --key"):
        gateway_config(stack, "80", 1, certificate=None, key=Path("/k.pem"))
