"""The exits service, which dies with -9 at one place on a trigger's way out: `python -m ... PLACE`.

pending: before the trigger is durable; intent: before its order intent; sent: before it says it was sent;
done: after that, before its own table says so. Without a place it lives.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from processors.exits import app
from processors.exits.publishing import Fired, Publisher
from tidewire import config
from tidewire.supervision import lifeline

PLACES = ("pending", "intent", "sent", "done")
_tell = Publisher._tell


async def _die(*_: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def _dies_before_sent(self: Publisher, fired: Fired, state: str) -> Any:
    return await (_die() if state == "sent" else _tell(self, fired, state))


async def _dies_after_sent(self: Publisher, fired: Fired, state: str) -> Any:
    sent = await _tell(self, fired, state)
    if state == "sent":
        for batch in sent:
            await batch.answer
        await _die()
    return sent


_DYING: dict[str, tuple[str, Any]] = {
    "pending": ("_write_through", _die),
    "intent": ("_order", _die),
    "sent": ("_tell", _dies_before_sent),
    "done": ("_tell", _dies_after_sent),
}


def main() -> int:
    """Run the service; returns its exit code."""
    lifeline.hold()
    if len(sys.argv) > 1:
        name, dying = _DYING[sys.argv[1]]
        setattr(Publisher, name, dying)
    return app.main(config.load(_env_file=None))


if __name__ == "__main__":
    sys.exit(main())
