"""The accounts with their keys, all read and checked at the start."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from tidewire import accounts, addresses
from tidewire.accounts import Account
from tidewire.config import Settings
from tidewire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Keyed:
    """An account and its key pair; printing it shows neither part."""

    account: Account
    key: SecretStr
    secret: SecretStr


def load(settings: Settings) -> tuple[Keyed, ...]:
    """Every account with its keys; none when there is no account.

    Raises:
        ConfigError: every mistake of accounts.toml, of the key files and of the address in one message.
    """
    found, problems = [], []
    for account in accounts.load(settings):
        try:
            addresses.check_trading(account.trading_url(settings))
            found.append(Keyed(account, *account.keys(settings)))
        except ConfigError as error:
            problems += [p for p in error.problems if p not in problems]
    if problems:
        raise ConfigError(problems)
    return tuple(found)
