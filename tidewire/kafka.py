"""Arguments for Kafka clients from the settings, and a first contact with a readable error."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tidewire import lost_connections
from tidewire.config import Settings
from tidewire.errors import ConfigError, UnreachableError

_LEAVE_SECONDS = 2.0
_NEVER_SECONDS = 86_400.0


def bootstrap(settings: Settings) -> str:
    """The brokers' addresses.

    Raises:
        ConfigError: none is named and no local stack has been filled in.
    """
    if not settings.kafka_bootstrap_servers:
        raise ConfigError(["KAFKA_BOOTSTRAP_SERVERS is not set and no local stack runs: `tidewire stack up`"])
    return settings.kafka_bootstrap_servers


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """A TLS context with host-name checks, or None for plaintext protocols."""
    if "SSL" not in settings.kafka_security_protocol:
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    if settings.kafka_ssl_certfile and settings.kafka_ssl_keyfile:
        context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    return context


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes: brokers, protocol, TLS, SASL."""
    lost_connections.tell_aiokafka()
    arguments: dict[str, Any] = {
        "bootstrap_servers": bootstrap(settings),
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_sasl_password is not None
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def unreachable(settings: Settings, error: Exception) -> UnreachableError:
    """What to tell a user whose cluster does not answer: where it was looked for, and what to do."""
    return UnreachableError(
        f"Kafka does not answer at {bootstrap(settings)} ({settings.kafka_security_protocol}): {error}. "
        "Check KAFKA_BOOTSTRAP_SERVERS, or unset it to use the local stack (`tidewire stack up`)."
    )


class Client(Protocol):
    """Any client of aiokafka."""

    async def start(self) -> None:
        """Connect. Raises KafkaError."""


async def start(client: Client) -> None:
    """Start a client so that it can be cancelled: a start that is cut off while it asks for metadata forgets
    its connection, and nobody closes that. So it is let through, for 2 s at the most.

    Raises:
        KafkaError: no broker answers.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        try:
            await asyncio.wait((starting,), timeout=_LEAVE_SECONDS)
        finally:
            if not starting.cancel() and not starting.cancelled():
                starting.exception()  # nobody waits for it any more
        raise


def fetch_only_when_read(consumer: AIOKafkaConsumer, patience: float = _NEVER_SECONDS) -> None:
    """Have a started consumer ask a broker for more only when all that came from it has been read.

    aiokafka waits for that 0.1 s; then it asks without the partitions that are unread. So a reader that is
    late by 0.1 s would get what comes for those only when that fetch ends, which may last as long as
    `fetch_max_wait_ms` allows. `patience`, in seconds, is for who leaves partitions unread on purpose.
    """
    consumer._fetcher._prefetch_backoff = patience


def pace_fetches(consumer: AIOKafkaConsumer, seconds: Callable[[int], float]) -> None:
    """Have a started consumer wait that long between a broker's answer and its next question to it: what is
    asked after each answer, with that broker's number.

    Each answer has a fixed cost for both. Without a pause, records that come an instant apart would each be
    asked for alone; a `fetch_min_bytes` would hold up a record that comes alone instead.
    """
    fetcher, free_at = consumer._fetcher, dict[int, float]()
    ask = fetcher._proc_fetch_request

    async def paced(assignment: Any, node_id: int, request: Any) -> bool:
        try:
            await asyncio.sleep(max(0.0, free_at.get(node_id, 0.0) - time.monotonic()))
        except asyncio.CancelledError:
            return False  # as `ask` itself: whoever cancels it waits for its answer
        found: bool = await ask(assignment, node_id, request)
        free_at[node_id] = time.monotonic() + seconds(node_id)
        return found

    fetcher._proc_fetch_request = paced


def fetch_in_order(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> None:
    """Have a started consumer ask for other topics first, then for these in their order.

    A broker fills an answer in the order of the question, up to its limit. aiokafka shuffles the partitions,
    so that with much to read of one topic another one, to be read before it, may not be in the answer.
    """
    fetcher, ranks = consumer._fetcher, {topic: rank for rank, topic in enumerate(topics)}
    ask = fetcher._proc_fetch_request

    async def ordered(assignment: Any, node_id: int, request: Any) -> bool:
        request.topics.sort(key=lambda asked: ranks.get(asked[0], -1))
        found: bool = await ask(assignment, node_id, request)
        return found

    fetcher._proc_fetch_request = ordered


@asynccontextmanager
async def reading(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer, started, that commits nothing and reads from the beginning; `options` are aiokafka's.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    client = AIOKafkaConsumer(
        **client_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest", **options
    )
    try:
        await start(client)
    except (KafkaError, OSError) as error:
        await client.stop()
        raise unreachable(settings, error) from error
    await asyncio.sleep(0)  # a consumer stopped before its tasks first ran would raise their CancelledError
    try:
        yield client
    finally:
        await client.stop()


async def check_reachable(settings: Settings) -> None:
    """Ask the cluster for its metadata.

    Raises:
        UnreachableError: no broker answered, with the addresses tried and what to do.
    """
    admin = AIOKafkaAdminClient(**client_arguments(settings), request_timeout_ms=10_000)
    try:
        await start(admin)
    except (KafkaError, OSError) as error:
        raise unreachable(settings, error) from error
    finally:
        await admin.close()
