"""The three addresses: every request is proved first, then done once, and answered 202 when Kafka has it.

A request whose work takes longer than the sender may wait is answered 503 and finished all the same: sent
again under its event id, it is answered by the outcome of that work.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from pydantic import SecretStr

from producers.webhooks.bucket import Buckets
from producers.webhooks.seen import Seen
from producers.webhooks.signature import Claims, RefusedRequestError, claims, prove
from tidewire import log
from tidewire.clock import Clock
from tidewire.errors import RecordError
from tidewire.metrics import WEBHOOKS

LARGEST_BODY = 1 << 20
BODY_SECONDS = 10.0
WORK_SECONDS = 10.0
"""How long a sender waits for Kafka."""
MOST_AT_WORK = 64

_log = log.get("webhooks")

Answer = Mapping[str, object]
Work = Callable[[bytes, int], Awaitable[Answer]]
"""Does what a proved body says, received at a time (ns). Raises RecordError: it says nothing of use."""


class Server:
    """`works` by the last part of the address (trade-update, news, market-data)."""

    def __init__(
        self,
        secret: SecretStr,
        works: Mapping[str, Work],
        seen: Seen,
        clock: Clock,
        *,
        work_seconds: float = WORK_SECONDS,
        buckets: Buckets | None = None,
    ) -> None:
        self._secret, self._works, self._seen, self._clock = secret, works, seen, clock
        self._work_seconds = work_seconds
        self._buckets = buckets or Buckets(clock)
        self._at_work: dict[str, asyncio.Task[web.Response]] = {}
        self._counted: Counter[str] = Counter()

    def app(self) -> web.Application:
        """The application to listen with."""
        app = web.Application(client_max_size=LARGEST_BODY)
        for endpoint in self._works:
            app.router.add_post(f"/webhook/{endpoint}", self._handler(endpoint))
        return app

    def details(self) -> dict[str, int]:
        """For /health: requests by outcome since the start."""
        return dict(sorted(self._counted.items()))

    async def finish(self, seconds: float) -> None:
        """Wait a moment for the work in hand, then leave it; its senders were not told 202."""
        if self._at_work:
            await asyncio.wait(self._at_work.values(), timeout=seconds)
        for task in self._at_work.values():
            task.cancel()

    def _handler(self, endpoint: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                outcome, response = await self._take(endpoint, request)
            except RefusedRequestError as refusal:
                outcome, response = refusal.outcome, _refused(refusal)
            except (ConnectionError, asyncio.IncompleteReadError):
                raise  # the sender is gone
            except Exception as error:  # neither the body nor a header may reach a log
                _log.error("a webhook failed", endpoint=endpoint, error=type(error).__name__)
                outcome, response = "busy", _error(500, "it failed here; send it again")
            self._counted[outcome] += 1
            WEBHOOKS.labels(endpoint, outcome).inc()
            return response

        return handle

    async def _take(self, endpoint: str, request: web.Request) -> tuple[str, web.Response]:
        if not self._buckets.take(request.remote or ""):
            raise RefusedRequestError(429, "rate", "too many requests; wait a second")
        claimed = claims(request.headers, self._clock())
        body = await _body(request)
        prove(claimed, body, self._secret.get_secret_value().encode())
        key = f"{claimed.event_id} {claimed.signature}"
        task = self._at_work.get(key)
        if task is None:
            if self._seen.known(claimed):
                return await self._repeated(claimed)
            if self._seen.full or len(self._at_work) >= MOST_AT_WORK:
                raise RefusedRequestError(503, "busy", "too much at once; send it again later")
            self._seen.claim(claimed)
            task = asyncio.create_task(self._work(endpoint, claimed, body))
            self._at_work[key] = task
            task.add_done_callback(lambda _: self._at_work.pop(key, None))
        return await self._outcome(task)

    async def _repeated(self, claimed: Claims) -> tuple[str, web.Response]:
        """Seen before; an event whose work is still in hand is answered by it, if it is signed anew."""
        # A sender's second try has a signature of its own: that too must not serve anybody under another id.
        await self._seen.accept(claimed, done=False)
        for key, task in self._at_work.items():
            event, _, signature = key.partition(" ")
            if event == claimed.event_id and signature != claimed.signature:
                return await self._outcome(task)
        raise RefusedRequestError(409, "repeated", "this event was accepted before")

    async def _outcome(self, task: asyncio.Task[web.Response]) -> tuple[str, web.Response]:
        done, _ = await asyncio.wait((task,), timeout=self._work_seconds)
        if not done:
            raise RefusedRequestError(503, "busy", "Kafka has not acknowledged it yet; send it again later")
        response = task.result()
        # A response belongs to one request.
        fresh = web.Response(body=response.body, status=response.status, content_type="application/json")
        return "accepted" if response.status == 202 else "malformed", fresh

    async def _work(self, endpoint: str, claimed: Claims, body: bytes) -> web.Response:
        try:
            answer = await self._works[endpoint](body, self._clock())
            response = web.json_response(answer, status=202)
        except RecordError as error:
            response = _error(400, error.reason)
        except BaseException:
            self._seen.give_up(claimed)
            raise
        await self._seen.accept(claimed)
        return response


async def _body(request: web.Request) -> bytes:
    if "Content-Encoding" in request.headers:
        raise RefusedRequestError(
            415, "malformed", "send the body as it was signed, without Content-Encoding"
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RefusedRequestError(413, "too_big", f"more than {LARGEST_BODY} bytes") from None
    except TimeoutError:
        raise RefusedRequestError(408, "malformed", f"no body within {BODY_SECONDS:g} s") from None


def _refused(refusal: RefusedRequestError) -> web.Response:
    response = _error(refusal.status, str(refusal))
    if refusal.status in (429, 503):
        response.headers["Retry-After"] = "1" if refusal.status == 429 else "5"
    return response


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)
