import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.stack import busy_database
from deployments.stack.busy_database import MOST_TRIES, AsksAgain


@pytest.fixture
def asked(monkeypatch):
    """(client of an app, the bodies it saw); it refuses as often as its path says."""
    monkeypatch.setattr(busy_database, "PAUSE_SECONDS", 0.0)
    seen = []

    async def answer(request):
        seen.append(await request.body())
        if len(seen) <= int(request.path_params["times"]):
            raise OSError("database is locked")
        return JSONResponse({"made": len(seen)}, 201)

    async def away(request):
        seen.append(await request.body())
        return Response("elsewhere", 503)

    async def refuse(request, error):
        return JSONResponse({"exception_message": "Service Unavailable"}, 503)

    every = ["GET", "POST", "PATCH"]
    routes = [Route("/away", away, methods=every), Route("/{times}", answer, methods=every)]
    # Starlette answers by this handler, and raises the error all the same.
    app = AsksAgain(Starlette(routes=routes, exception_handlers={Exception: refuse}))
    way = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=way, base_url="http://here")
    return client, seen


@pytest.mark.parametrize("times", [0, 1, MOST_TRIES - 1])
@pytest.mark.anyio
async def test_a_refused_change_is_made_in_the_end(asked, times):
    client, seen = asked
    done = await client.post(f"/{times}", content=b"x" * 100_000)
    assert (done.status_code, done.json()) == (201, {"made": times + 1})
    assert set(seen) == {b"x" * 100_000}


@pytest.mark.anyio
async def test_a_database_that_stays_busy_is_told(asked):
    client, seen = asked
    done = await client.patch("/100", json={})
    assert done.status_code == 503
    assert "Service Unavailable" in done.text
    assert len(seen) == MOST_TRIES


@pytest.mark.anyio
async def test_other_refusals_and_reading_are_passed_on(asked):
    client, seen = asked
    assert (await client.post("/away")).text == "elsewhere"
    assert (await client.get("/1")).status_code in {201, 503}
    assert len(seen) == 2


@pytest.mark.anyio
async def test_what_is_too_large_to_keep_is_asked_once(asked, monkeypatch):
    client, seen = asked
    monkeypatch.setattr(busy_database, "MOST_BYTES", 10)

    async def large():
        for _ in range(5):
            yield b"x" * 10

    done = await client.post("/1", content=large())
    assert done.status_code == 503
    assert seen == [b"x" * 50]
