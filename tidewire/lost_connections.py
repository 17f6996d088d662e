"""Connections to Kafka that were just reset: aiokafka is told so in its own words, on uvloop as well.

uvloop closes a socket at once when its peer resets it, as a killed broker's machine does, and answers a
write from then on with a RuntimeError; asyncio takes such a write in silence. aiokafka expects an OSError
there, and until its reader has noticed, two turns of the loop later, it takes the connection for a sound one.
Whatever writes in between ends with that RuntimeError: the task that renews the cluster's metadata, which
nobody starts again, and whoever waits for metadata then waits for ever (aiokafka issue 1038,
docs/decisions/0067).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

_WRITING = ("send", "_send_sasl_token")


def tell_aiokafka() -> None:
    """From now on a write to a connection that was reset ends with a KafkaConnectionError in this process."""
    for name in _WRITING:
        writing = getattr(AIOKafkaConnection, name, None)
        if writing is not None and not hasattr(writing, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _told(writing))


def _told(writing: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(writing)
    def write(connection: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return writing(connection, *args, **kwargs)
        except KafkaError:  # a RuntimeError as well
            raise
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(
                f"Connection at {connection.host}:{connection.port} was reset: {error}"
            ) from error

    return write
