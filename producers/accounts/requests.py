"""What is asked of the accounts on control.requests: rounds at once, wherever the account is owned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiokafka.structs import ConsumerRecord

from producers.log_follow import LogFollower
from schemas.codec import Codec
from tidewire import kafka, log
from tidewire.config import Settings
from tidewire.errors import RecordError

RECONCILE = "reconcile"
EVERYBODY = "*"

_log = log.get("accounts")

Asked = Callable[[str], None]
"""Takes the name of an account, or * for all."""


async def follow(settings: Settings, codec: Codec, topic: str, asked: Asked) -> None:
    """Hand on every request for a reconciliation from now on, until cancelled.

    What was asked before is not looked at: every account begins with a round.
    """

    async def take(records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            _take(codec, record.value, asked)

    await LogFollower(kafka.client_arguments(settings), (topic,), from_end=True).run(take)


def _take(codec: Codec, value: bytes | None, asked: Asked) -> None:
    try:
        request = codec.decode(value or b"")[1]
    except RecordError as error:
        _log.warning("a request that cannot be read", reason=error.reason[:200])
        return
    if request["kind"] == RECONCILE:
        _log.info("a reconciliation is asked for", target=request["target"], reason=request["reason"])
        asked(request["target"])
