"""The kill switch of an installation, from its settings: for the command and for the gateway."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import ClientSession

from sinks.executor import broker
from sinks.executor.broker_types import Broker, Stopped
from sinks.executor.kill import Kill
from tidewire.accounts import Account
from tidewire.config import Settings
from tidewire.errors import ConfigError


def of_settings(settings: Settings, accounts: Sequence[Account], session: ClientSession) -> Kill:
    """The switch over these accounts; keys are read when an account's broker is asked, and not before."""
    known = {account.name: account for account in accounts}

    def open(name: str) -> Broker:
        if name not in known:
            raise ConfigError([f"no account {name}; there are {', '.join(known) or 'none'}"])
        return broker.of_account(session, settings, known[name], _never)

    url = settings.database_url
    database = None if url is None else url.get_secret_value()
    return Kill(settings.tidewire_home, database, list(known), open)


async def _never() -> None:
    """Whoever turns the switch places no orders."""
    raise Stopped("the kill switch orders nothing")
