"""Writes the tape's interest to control.subscriptions: changes at once, renewals every 20 s."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.catalogue import SUBSCRIPTIONS
from schemas.codec import Codec
from sinks.gateway.interest import RENEW_SECONDS, Interest
from tidewire import log
from tidewire.clock import Clock
from tidewire.config import Settings
from tidewire.kafka import client_arguments, start

_SEND_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_RELEASE_SECONDS = 5.0

_log = log.get(__name__)


class InterestWriter:
    """Call `poke` after the interest has changed."""

    def __init__(self, settings: Settings, codec: Codec, interest: Interest, now: Clock) -> None:
        self._settings, self._interest, self._now = settings, interest, now
        self._topic = settings.tidewire_topic_prefix + SUBSCRIPTIONS
        self._encode = codec.encoder("subscription")
        self._wake = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None

    def poke(self) -> None:
        """Something has changed: write it soon."""
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled; what cannot be written is tried again."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, renew_at - loop.time())):
                    await self._wake.wait()
            self._wake.clear()
            symbols = dict.fromkeys(self._interest.changed())
            if loop.time() >= renew_at:
                renew_at = loop.time() + RENEW_SECONDS
                symbols |= dict.fromkeys(self._interest.symbols)
            if symbols and not await self._write(symbols):
                self._interest.again(symbols)
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake.set()

    async def release(self) -> None:
        """Release everything: the gateway stops. What Kafka does not take in 5 s expires by itself."""
        for symbol in self._interest.symbols:
            while symbol in self._interest.symbols:
                self._interest.remove(symbol)
        changed = self._interest.changed()
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                if changed:
                    await self._write(changed)
        except TimeoutError:
            _log.warning("the tape's subscriptions could not be released; they expire", symbols=len(changed))
        await self._close()

    async def _write(self, symbols: Iterable[str]) -> bool:
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                producer = await self._connected()
                sent = []
                for symbol in symbols:
                    key, record = self._interest.entry(symbol, self._now())
                    value = None if record is None else self._encode(record)
                    sent.append(await producer.send(self._topic, key=key, value=value))
                await asyncio.gather(*sent)
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            _log.warning("the tape's subscriptions could not be written", reason=repr(error))
            await self._close()
            return False
        return True

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_arguments(self._settings), client_id="tidewire-gateway", acks="all", linger_ms=0
            )
            try:
                await start(producer)
                await producer.client.set_topics([self._topic])
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await producer.stop()
