"""An accounts producer in this process, and what the topics hold: for tests of the accounts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from producers.accounts.app import Accounts
from schemas.catalogue import (
    ACCOUNT_SNAPSHOTS,
    ACTIVITIES,
    AUDITS,
    CONNECTIONS,
    GAPS,
    LEASES,
    REQUESTS,
    TRADE_UPDATE_FRAMES,
    TRADE_UPDATES,
)
from tests.integration.service_run import running as service_running
from tests.integration.topic_content import decoded
from tidewire.config import Settings
from tidewire.health import Health

Record = dict[str, Any]
TOPICS = (
    TRADE_UPDATES, ACCOUNT_SNAPSHOTS, ACTIVITIES, CONNECTIONS, GAPS, AUDITS, LEASES, REQUESTS,
    TRADE_UPDATE_FRAMES,
)  # fmt: skip


def accounts(settings: Settings, **keys: str) -> None:
    """Account names and their key pairs, as `key secret`, into accounts.toml."""
    folder = settings.tidewire_accounts_file.parent
    lines = []
    for name, pair in keys.items():
        file = folder / f"{name}.keys"
        file.write_text(pair.replace(" ", "\n") + "\n")
        file.chmod(0o600)
        lines += [f"[accounts.{name}]", f'key_file = "{file.name}"', 'users = ["anna"]']
    settings.tidewire_accounts_file.write_text("\n".join(lines))


@asynccontextmanager
async def running(
    settings: Settings, url: str, seconds: float = 60, **more: Any
) -> AsyncIterator[tuple[Accounts, Health]]:
    own = {"tidewire_trading_url": url, "tidewire_snapshot_seconds": seconds, **more}
    service = Accounts(settings.model_copy(update=own), start_seconds=5)
    async with service_running(service, "accounts") as health:
        yield service, health


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def until_held(held: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await held():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.1)


async def updates(settings: Settings, account: str = "one") -> list[Record]:
    return [r for r in await decoded(settings, TRADE_UPDATES) if r["account"] == account]


def opened(health: Health) -> bool:
    """Whether every account is followed and has had its snapshot."""
    return health.not_ready is None


async def has(settings: Settings, count: int) -> bool:
    return len(await updates(settings)) >= count
