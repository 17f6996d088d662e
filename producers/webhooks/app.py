"""The webhook service: signed POSTs of other senders -> Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from aiohttp import web

from producers import contact, log_tail
from producers.contact import START_SECONDS
from producers.publisher import Publisher
from producers.session import Session
from producers.webhooks import messages
from producers.webhooks.delivery import Delivered, Delivery
from producers.webhooks.seen import Seen
from producers.webhooks.server import WORK_SECONDS, Answer, Server, Work
from schemas import catalogue, event_id
from schemas.catalogue import NEWS, NEWS_FRAMES, REQUESTS, STOCK_FRAMES, Catalogue
from schemas.codec import Codec, load_codec
from tidewire import kafka, log, service
from tidewire.clock import NS_PER_SECOND, Clock, now_ns
from tidewire.config import Settings
from tidewire.dead_letters import SUFFIX
from tidewire.errors import ConfigError, RecordError, TidewireError
from tidewire.health import Health

UNSET = "no webhooks: set TIDEWIRE_WEBHOOK_SECRET"
SHORTEST_SECRET = 16
MARKET = (
    catalogue.STOCK_TRADES, catalogue.STOCK_QUOTES, catalogue.STOCK_BARS, catalogue.STOCK_STATUSES,
    catalogue.STOCK_LULDS, catalogue.STOCK_CORRECTIONS, catalogue.STOCK_IMBALANCES, catalogue.OPTION_TRADES,
    catalogue.OPTION_QUOTES, catalogue.CRYPTO_TRADES, catalogue.CRYPTO_QUOTES, catalogue.CRYPTO_BARS,
)  # fmt: skip
FRAMES = (STOCK_FRAMES, catalogue.OPTION_FRAMES, catalogue.CRYPTO_FRAMES, NEWS_FRAMES)
_FINISH_SECONDS = 2.0

_log = log.get("webhooks")


def main(settings: Settings, *, start_seconds: float = START_SECONDS) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    webhooks = Webhooks(settings, start_seconds=start_seconds)
    return service.run("webhooks", settings, webhooks.run, webhooks.details)


class Webhooks:
    """Listens on TIDEWIRE_WEBHOOK_HOST and _PORT; `url` then says where."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = now_ns,
        start_seconds: float = START_SECONDS,
        work_seconds: float = WORK_SECONDS,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._start_seconds, self._work_seconds = start_seconds, work_seconds
        self._name = Catalogue(settings.tidewire_topic_prefix, 1).name
        self._publisher: Publisher | None = None
        self._server: Server | None = None
        self.url: str | None = None

    def details(self) -> Mapping[str, object]:
        """For /health."""
        publisher, server = self._publisher, self._server
        return {
            "url": self.url,
            "requests": {} if server is None else server.details(),
            "buffered_bytes": 0 if publisher is None else publisher.buffered_bytes,
            "kafka": (publisher.trouble if publisher else None) or "ok",
        }

    async def run(self, health: Health, stop: asyncio.Event) -> None:
        """The body of the service.

        Raises:
            ConfigError, UnreachableError, SchemaError, TidewireError: see the messages.
        """
        secret = self._settings.tidewire_webhook_secret
        if secret is None:
            _log.warning(UNSET)
            health.ready()
            await stop.wait()
            return
        if len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise ConfigError([f"TIDEWIRE_WEBHOOK_SECRET must have {SHORTEST_SECRET} characters or more"])
        await contact.reach(self._settings, stop, self._start_seconds)
        if stop.is_set():
            return
        topics = [self._name(topic) for topic in (*MARKET, NEWS, REQUESTS)]
        letters = [self._name(topic) for topic in (*MARKET, NEWS, *FRAMES)]
        await contact.check_topics(self._settings, [*topics, *(topic + SUFFIX for topic in letters)])
        codec = load_codec(self._settings)
        publisher = self._publisher = Publisher(Session(kafka.client_arguments(self._settings)), linger=0.0)
        async with AsyncExitStack() as ending:
            ending.push_async_callback(publisher.stop)
            await publisher.start(topics, letters)
            async with log_tail.reader(kafka.client_arguments(self._settings)) as consumer:
                partitions = [p for topic in topics for p in publisher.partitions(topic)]
                publisher.expect(await log_tail.ends(consumer, partitions))
            ending.push_async_callback(contact.flush, publisher, "webhooks")
            seen = Seen(self._settings.tidewire_home / "webhooks", self._clock)
            ending.callback(seen.close)
            seen.open()
            work = _Work(self._settings, codec, publisher, self._name, self._clock)
            server = self._server = Server(
                secret, work.by_endpoint(), seen, self._clock, work_seconds=self._work_seconds
            )
            ending.push_async_callback(server.finish, _FINISH_SECONDS)
            runner = await self._listen(server.app())
            ending.push_async_callback(runner.cleanup)
            showing = asyncio.create_task(_show_health(health, publisher))
            ending.callback(showing.cancel)
            await stop.wait()

    async def _listen(self, app: web.Application) -> web.AppRunner:
        host, port = self._settings.tidewire_webhook_host, self._settings.tidewire_webhook_port
        # No access log: addresses of senders are theirs.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise TidewireError(
                f"cannot listen on {host}:{port}: {error.strerror}. "
                "Set TIDEWIRE_WEBHOOK_PORT to a free port, or to 0 for any."
            ) from error
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
        _log.info("listening for webhooks", url=self.url)
        return runner


class _Work:
    """What each address does."""

    def __init__(
        self, settings: Settings, codec: Codec, publisher: Publisher, name: Callable[[str], str], clock: Clock
    ) -> None:
        # Seconds since 1970, as every writer without a lease.
        self._delivery = Delivery(settings, codec, publisher, name, clock() // NS_PER_SECOND)
        self._codec, self._name = codec, name

    def by_endpoint(self) -> dict[str, Work]:
        return {"trade-update": self.trade_update, "news": self.news, "market-data": self.market_data}

    async def trade_update(self, body: bytes, received_ns: int) -> Answer:
        """A hint and no more: the accounts service then asks Alpaca itself. Never folded as a fill."""
        target = messages.account(body)
        record = {
            "kind": "reconcile",
            "target": target,
            "ts": received_ns,
            "reason": "webhook",
            "received_ts": received_ns,
            "source": "webhook",
            "event_id": event_id.request_id("reconcile", target, received_ns),
        }
        value = self._codec.encode("request", record)
        await self._delivery.request(self._name(REQUESTS), target.encode(), value, received_ns)
        return {"reconcile": target}

    async def news(self, body: bytes, received_ns: int) -> Answer:
        try:
            found = messages.news(body)
        except RecordError as error:
            await self._delivery.dead_letter(self._name(NEWS_FRAMES), body, error, received_ns)
            raise
        return _said(await self._delivery.deliver(found, received_ns))

    async def market_data(self, body: bytes, received_ns: int) -> Answer:
        try:
            found = messages.market_data(body)
        except RecordError as error:
            await self._delivery.dead_letter(self._name(STOCK_FRAMES), body, error, received_ns)
            raise
        return _said(await self._delivery.deliver(found, received_ns))


def _said(done: Delivered) -> Answer:
    return {"published": done.published, "duplicates": done.duplicates, "refused": done.refused}


async def _show_health(health: Health, publisher: Publisher) -> None:
    while True:
        health.ready(publisher.trouble)
        await asyncio.sleep(0.1)
