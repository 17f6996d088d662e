"""The order of things at the door: proved, done once, answered when it is done. Over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from pydantic import SecretStr

from producers.webhooks.bucket import Buckets
from producers.webhooks.seen import Seen
from producers.webhooks.server import LARGEST_BODY, Answer, Server
from producers.webhooks.signature import EVENT_ID, SIGNATURE, TIMESTAMP, sign
from tidewire.errors import RecordError

SECRET = "canary-secret-1234567890"


class Door:
    """A server whose work the test holds in its hands."""

    def __init__(self, session: ClientSession, url: str, server: Server) -> None:
        self._session, self._url, self.server = session, url, server

    async def post(self, body: bytes, event: str, at: int | None = None, **other: Any) -> tuple[int, str]:
        stamp = str(int(time.time()) if at is None else at)
        headers = {TIMESTAMP: stamp, SIGNATURE: sign(stamp, body, SECRET.encode()), EVENT_ID: event}
        headers |= other.pop("headers", {})
        async with self._session.post(
            f"{self._url}/webhook/news", data=BytesIO(body), headers=headers
        ) as response:
            return response.status, await response.text()


@asynccontextmanager
async def door(tmp_path: Path, work: Any, **other: Any) -> AsyncIterator[Door]:
    seen = Seen(tmp_path, time.time_ns)
    seen.open()
    server = Server(SecretStr(SECRET), {"news": work}, seen, time.time_ns, **other)
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ClientSession() as session:
            yield Door(session, f"http://127.0.0.1:{runner.addresses[0][1]}", server)
    finally:
        await server.finish(1)
        await runner.cleanup()
        seen.close()


async def test_202_comes_only_when_the_work_is_done_and_a_second_try_gets_its_outcome(tmp_path: Path) -> None:
    """While Kafka is away a sender must not be told that its event is safe; nor may its second try write the
    event a second time.
    """
    go, done = asyncio.Event(), list[bytes]()

    async def work(body: bytes, _: int) -> Answer:
        await go.wait()
        done.append(body)
        return {"published": 1}

    async with door(tmp_path, work, work_seconds=0.3) as sender:
        now = int(time.time())
        assert (await sender.post(b"[1]", "e1", now))[0] == 503
        assert (await sender.post(b"[1]", "e1", now))[0] == 503
        assert (await sender.post(b"[1]", "thief", now))[0] == 409, "the same signature under another id"
        waiting = asyncio.create_task(sender.post(b"[1]", "e1", now - 1))  # signed anew
        signature = sign(str(now - 1), b"[1]", SECRET.encode())
        while signature[:32] not in (tmp_path / "seen").read_text():  # it has come in
            await asyncio.sleep(0.005)
        go.set()
        assert await waiting == (202, '{"published": 1}')
        assert (await sender.post(b"[1]", "e1", now))[0] == 409
        assert (await sender.post(b"[1]", "thief", now - 1))[0] == 409, "nor the second try's"
        assert done == [b"[1]"]
        assert sender.server.details() == {"accepted": 1, "busy": 2, "repeated": 3}


async def test_what_fails_here_may_be_sent_again_and_what_is_wrong_may_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An error of ours must not cost the sender its event; and nothing of a request may show up in a log."""
    failing = [True]

    async def work(body: bytes, _: int) -> Answer:
        if failing.pop() if failing else False:
            raise OSError(f"{SECRET} {body!r}")
        raise RecordError("not JSON")

    async with door(tmp_path, work) as sender:
        assert await sender.post(b"x", "e1") == (500, '{"error": "it failed here; send it again"}')
        assert await sender.post(b"x", "e1") == (400, '{"error": "not JSON"}')
        assert (await sender.post(b"x", "e1"))[0] == 409
    out = capsys.readouterr()
    assert "OSError" in out.out + out.err + caplog.text
    assert SECRET not in out.out + out.err + caplog.text


async def test_the_door_is_bounded(tmp_path: Path) -> None:
    """A body without end, an unpacked bomb and a flood must cost their sender, not the service."""

    async def work(body: bytes, _: int) -> Answer:
        return {"bytes": len(body)}

    buckets = Buckets(time.time_ns, per_second=0.001, burst=6)
    async with door(tmp_path, work, buckets=buckets) as sender:
        assert (await sender.post(b"x" * LARGEST_BODY, "e1"))[0] == 202
        assert (await sender.post(b"x" * (LARGEST_BODY + 1), "e2"))[0] == 413
        assert (await sender.post(b"x", "e3", headers={"Content-Encoding": "gzip"}))[0] in (400, 415)
        assert (await sender.post(b"x", "e4", headers={SIGNATURE: "0" * 64}))[0] == 401
        assert (await sender.post(b"x", "e4", int(time.time()) - 301))[0] == 401
        assert (await sender.post(b"x", "e4", int(time.time()) + 310))[0] == 401
        assert (await sender.post(b"x", "e4"))[0] == 429
        found = sender.server.details()
        assert {"accepted", "too_big", "altered", "stale", "future", "rate"} <= set(found)
