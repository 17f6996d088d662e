"""What is asked of the accounts on control.requests: rounds at once, wherever the account is owned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from schemas.codec import Codec
from tidewire import kafka, log
from tidewire.config import Settings
from tidewire.errors import RecordError

RECONCILE = "reconcile"
EVERYBODY = "*"
_PAUSE_SECONDS = 1.0

_log = log.get("accounts")

Asked = Callable[[str], None]
"""Takes the name of an account, or * for all."""


async def follow(settings: Settings, codec: Codec, topic: str, asked: Asked) -> None:
    """Hand on every request for a reconciliation from now on, until cancelled.

    What was asked before is not looked at: every account begins with a round.
    """
    position: int | None = None
    partition = TopicPartition(topic, 0)
    while True:
        consumer = AIOKafkaConsumer(
            **kafka.client_arguments(settings), enable_auto_commit=False, auto_offset_reset="latest"
        )
        try:
            await consumer.start()
            consumer.assign([partition])
            if position is None:
                position = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, position)
            async for record in consumer:
                position = record.offset + 1
                _take(codec, record.value, asked)
        except (KafkaError, OSError) as error:
            _log.warning("requests are not followed at the moment", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            await consumer.stop()


def _take(codec: Codec, value: bytes | None, asked: Asked) -> None:
    try:
        request = codec.decode(value or b"")[1]
    except RecordError as error:
        _log.warning("a request that cannot be read", reason=error.reason[:200])
        return
    if request["kind"] == RECONCILE:
        _log.info("a reconciliation is asked for", target=request["target"], reason=request["reason"])
        asked(request["target"])
