"""Who gets into the gateway, and how much they may ask for. Lost otherwise: other people's money."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import psycopg
import pytest

from sinks.gateway import tokens, users
from tests.integration.gateway_world import Talk, World, refusal, serving, talking, until, world
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture
async def place(settings: Settings) -> AsyncIterator[World]:
    async with world(settings) as made:
        yield made


async def test_only_a_valid_session_and_an_allowed_page_get_in(place: World) -> None:
    """Anybody could read a portfolio with a made-up or an old cookie, or through a page the user visits."""
    async with serving(place, tidewire_gateway_origins=("https://desk.example.com",)) as gateway:
        url, good = str(gateway.url), place.cookie("anna")
        expired, revoked = users.mint_session(place.database_url, "anna", 0), place.cookie("anna")
        with psycopg.connect(place.database_url) as db:
            db.execute(
                "DELETE FROM gateway_sessions WHERE token_hash = %s", (tokens.digest(revoked.split("=")[1]),)
            )
        forged = f"{tokens.COOKIE}={tokens.new()}"
        stored = f"{tokens.COOKIE}={base64.urlsafe_b64encode(tokens.digest(good)).decode()}"
        for path in ("/ws/portfolio", "/ws/tape"):
            for bad in (None, expired, revoked, forged, stored, f"{tokens.COOKIE}=", good[:-1], good + "x"):
                assert await refusal(url, bad, path) == 401, bad
            host = url.removeprefix("http://")
            for origin in (
                "null", "", "https://evil.example", f"http://{host}.evil.example", f"http://evil{host}",
                "https://desk.example.com.evil.example", "https://evildesk.example.com",
                "http://desk.example.com", "https://desk.example.com:8443", "https://DESK.example.com", "file://",
            ):  # fmt: skip
                assert await refusal(url, good, path, [("Origin", origin)]) == 403, origin
            for origin in (url, "https://desk.example.com"):
                assert await refusal(url, good, path, [("Origin", origin)]) == 101, origin
        async with aiohttp.ClientSession() as http:
            for path in ("/api/positions", "/api/orders", "/api/account", "/api/session"):
                answer = await http.get(url + path)
                assert (answer.status, answer.headers["Cache-Control"]) == (401, "no-store")
            evil = await http.post(f"{url}/api/sign-out", headers={"Origin": "https://evil.example"})
            assert evil.status == 403
            page = await http.get(url)
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert (await http.get(f"{url}/page/page.js")).status == 200
            assert (await http.get(f"{url}/page/%2e%2e/app.py")).status == 404


async def test_signing_in_and_out(place: World) -> None:
    """Users would be locked out, or their sockets would outlive their sign-out."""
    users.add(place.database_url, "anna", "correct horse")
    async with serving(place) as gateway, aiohttp.ClientSession() as http:
        url = str(gateway.url)

        async def sign_in(user: str, password: str) -> aiohttp.ClientResponse:
            return await http.post(f"{url}/api/sign-in", json={"user": user, "password": password})

        answer = await sign_in("anna", "correct horse")
        cookie = answer.headers["Set-Cookie"]
        for flag in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"):
            assert flag in cookie
        mine = cookie.split(";")[0]
        for user in ("anna", "nobody"):
            assert (await sign_in(user, "wrong")).status == 401
        assert [(await sign_in("nobody", "wrong")).status for _ in range(10)][-1] == 429
        assert (await sign_in("anna", "correct horse")).status == 200, "others' failures do not lock anna out"
        async with talking(url, mine) as one, talking(url, mine, "/ws/tape") as two:
            await one.next()
            began = time.monotonic()
            assert (await http.post(f"{url}/api/sign-out", headers={"Cookie": mine})).status == 200
            assert set(await asyncio.gather(one.close_code(), two.close_code())) == {4401}
            assert time.monotonic() - began < 1
        assert await refusal(url, mine) == 401
        async with talking(url, place.cookie("anna")) as other:
            await other.next()
            began = time.monotonic()
            await asyncio.to_thread(users.set_password, place.database_url, "anna", "battery staple")
            assert await other.close_code() == 4401, "ended in the database, by another process"
            assert time.monotonic() - began < 1.5


async def test_a_link_works_once_and_only_by_its_button(place: World) -> None:
    """A mail scanner would use a link up before its user, or somebody could use it again."""
    users.ensure_user(place.database_url, "anna")
    token = users.one_time_link(place.database_url, "anna")
    with psycopg.connect(place.database_url) as db:
        assert token not in str(db.execute("SELECT * FROM gateway_links").fetchall())
    async with serving(place) as gateway, aiohttp.ClientSession() as http:
        link = f"{gateway.url}/sign-in/{token}"
        for _ in range(3):
            page = await http.get(link)
            assert (page.status, token in await page.text()) == (200, False)
        tries = [
            http.post(link, allow_redirects=False, headers={"Origin": str(gateway.url)}) for _ in range(8)
        ]
        answers = await asyncio.gather(*tries)
        assert sorted(a.status for a in answers) == [303] + [401] * 7
        cookie = next(a for a in answers if a.status == 303).headers["Set-Cookie"].split(";")[0]
        assert await refusal(str(gateway.url), cookie) == 101


async def test_the_sixth_connection_is_refused_under_parallel_upgrades(place: World) -> None:
    """One user could take the places of all."""
    async with serving(place) as gateway, aiohttp.ClientSession(connector=_many()) as http:
        url, headers = str(gateway.url), {"Cookie": place.cookie("anna")}
        tries = [http.ws_connect(f"{url}/ws/portfolio", headers=headers) for _ in range(50)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        taken = [a for a in answers if isinstance(a, aiohttp.ClientWebSocketResponse)]
        refused = [a.status for a in answers if isinstance(a, aiohttp.WSServerHandshakeError)]
        assert (len(taken), set(refused), len(refused)) == (5, {429}, 45)
        body = await (await http.get(f"{url}/ws/portfolio", headers=headers | _UPGRADE)).json()
        assert "Maximum connections exceeded" in body["error"]
        async with talking(url, place.cookie("ben")) as ben:
            await ben.next()
        await taken[0].close()
        await until(lambda: len(gateway.clients) == 4)
        assert await refusal(url, place.cookie("anna")) == 101
        for socket in taken[1:]:
            await socket.close()


def _many() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=0)


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
}


async def test_a_client_that_sends_too_much_is_closed(place: World) -> None:
    """One client could keep the gateway busy with reading."""
    async with serving(place) as gateway:
        url, cookie = str(gateway.url), place.cookie("anna")
        async with talking(url, cookie) as big:
            await big.socket.send_str('"' + "x" * 4200 + '"')
            assert await big.close_code() == 1009
        async with talking(url, cookie, "/ws/tape") as many:
            for _ in range(100):
                await many.socket.send_json({"action": "ping"})
            for _ in range(100):
                assert (await many.next())["type"] == "pong"
            await many.socket.send_json({"action": "ping"})
            assert await many.close_code() == 1008


async def test_without_postgresql_open_sockets_stay_and_sign_in_says_so(place: World) -> None:
    """A restart of the database would throw everybody out, or hang every sign-in."""
    async with serving(place) as gateway, aiohttp.ClientSession() as http:
        url, cookie = str(gateway.url), place.cookie("anna")
        async with talking(url, cookie) as anna:
            await anna.next()
            _allow_connections(place, False)
            try:
                await asyncio.sleep(0.6)
                answer = await http.post(
                    f"{url}/api/sign-in", json={"user": "anna", "password": "correct horse"}
                )
                assert (answer.status, "database" in (await answer.json())["error"]) == (503, True)
                assert await refusal(url, f"{tokens.COOKIE}={tokens.new()}") == 503
                await _still_there(place, anna)
                async with talking(url, cookie) as again:
                    assert (await again.next())["type"] == "batch", "a session known before goes on"
            finally:
                _allow_connections(place, True)
            assert await refusal(url, place.cookie("ben")) == 101


async def _still_there(place: World, talk: Talk) -> None:
    await place.position("one", "AAPL", 7)
    await talk.until(lambda m: m["data"].get("symbol") == "AAPL")


def _allow_connections(place: World, allowed: bool) -> None:
    """Lock everybody out of the test's own database; the server itself is shared."""
    from psycopg import conninfo

    name = str(conninfo.conninfo_to_dict(place.database_url)["dbname"])
    server = conninfo.make_conninfo(place.database_url, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(allowed).lower()}'.encode())
        if not allowed:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
