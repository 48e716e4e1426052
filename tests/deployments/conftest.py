"""What tests of sites and of their gateway share."""

import threading
import time
from contextlib import contextmanager

import pytest


@pytest.fixture
def serving():
    """Starts a gateway before a stack, for a ``with`` block."""
    return _serving


@contextmanager
def _serving(stack, folder, *sites):
    """Its address, a token for each site, and its door."""
    import httpx
    import uvicorn

    from deployments.gateway.app import make_app
    from deployments.gateway.limits import Limits
    from deployments.gateway.tokens import Tokens, tokens_file
    from deployments.stack.credentials import authorization
    from deployments.stack.stack import LOOPBACK

    tokens = Tokens(tokens_file(folder))
    words = {site: tokens.issue(site) for site in sites}
    api = httpx.AsyncClient(
        base_url=stack.prefect_api_url, headers=authorization(stack), trust_env=False
    )
    config = uvicorn.Config(
        make_app(tokens, Limits(), api), host=LOOPBACK, port=0, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{LOOPBACK}:{port}/api", words, config.app.state.door
    finally:
        server.should_exit = True
        thread.join(10)
