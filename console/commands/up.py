"""`tidewire up`: every service against Alpaca, supervised, until Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from console.commands.runs import line, session
from console.commands.runs.interrupts import Interrupted
from console.commands.runs.session import Run, Session
from tidewire import accounts, config
from tidewire.config import Feed, Settings
from tidewire.errors import ConfigError

_NO_KEYS = (
    "APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set. A free paper account at https://app.alpaca.markets "
    "gives you a pair (Home, API Keys, Generate); put them into the environment or into .env "
    "(`tidewire init` writes a template). Without keys: `tidewire demo`"
)


def up(
    feed: Annotated[
        Feed | None, typer.Option(help="iex (free), sip, delayed_sip, or test: always on (TIDEWIRE_FEED).")
    ] = None,
    symbols: Annotated[
        str, typer.Option(help="Symbols, comma separated, or * (TIDEWIRE_SYMBOLS).", metavar="A,B,...")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processor processes.")] = 1,
    no_screen: Annotated[bool, typer.Option("--no-screen", help="Log lines instead of the screen.")] = False,
) -> None:
    """Run every service against Alpaca, supervised, until Ctrl-C.

    Starts a local Kafka and PostgreSQL unless the environment names others. Data stays for the next start.

    Example: tidewire up --feed test
    """
    overrides: dict[str, object] = {}
    if feed is not None:
        overrides["tidewire_feed"] = feed
    if symbols:
        overrides["tidewire_symbols"] = symbols
    settings = config.load(**overrides)
    if settings.apca_api_key_id is None:
        raise ConfigError([_NO_KEYS])
    accounts.load(settings)  # a mistake in accounts.toml is told before anything starts
    with session.opened(settings, "up", screen=not no_screen) as current:
        _run(current, settings, workers)


def _run(current: Session, settings: Settings, workers: int) -> None:
    servers = current.start_servers()
    line.prepare(servers.settings, current.steps)
    services = line.pipeline(
        line.environment(servers.settings),
        workers,
        accounts=bool(accounts.load(settings)),
        others=line.asked_for(settings),
    )
    session.supervised(current, servers, services, None, lambda run: _until_stopped(run, settings))


async def _until_stopped(run: Run, settings: Settings) -> None:
    """Until the first signal, which is the normal end."""
    async with run.screen("tidewire up", settings.tidewire_feed):
        try:
            await run.until(asyncio.Event().wait())
        except Interrupted:
            return
