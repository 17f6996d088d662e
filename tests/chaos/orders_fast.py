"""The executor with the broker's rate limit on a clock that runs a thousand times as fast, and less patience.

For runs of thousands of orders: 200 requests a minute would take a day. Everything else is the service's.
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import ClientSession

from sinks.executor import app, desks
from sinks.executor.broker import AlpacaBroker
from sinks.executor.broker_types import LastCheck
from sinks.executor.limiter import Turnstile, Window
from tidewire import config
from tidewire.accounts import Account
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.supervision import lifeline

SPEED = 1_000
REQUEST_SECONDS = 2.0
"""How long an answer is waited for; answers that are made late come later than that."""


def clock() -> int:
    """Even, in ns, and fast."""
    return time.monotonic_ns() * SPEED


async def sleep(seconds: float) -> None:
    """By that clock."""
    await asyncio.sleep(seconds / SPEED)


def of_account(
    session: ClientSession, settings: Settings, account: Account, switch: LastCheck
) -> AlpacaBroker:
    """As sinks.executor.broker.of_account, but for the clock."""
    url = account.trading_url(settings)
    key, secret = account.keys(settings)
    broker = AlpacaBroker(
        session, url, settings.data_url, key, secret, switch, request_seconds=REQUEST_SECONDS,
        turnstile=Turnstile(Window(), clock, now_ns, sleep),
    )  # fmt: skip
    broker._data_turns = Turnstile(Window(), clock, now_ns, sleep)
    return broker


def main() -> int:
    """Run the service; returns its exit code."""
    lifeline.hold()
    desks.of_account = of_account  # type: ignore[attr-defined]
    return app.main(config.load(_env_file=None))


if __name__ == "__main__":
    sys.exit(main())
