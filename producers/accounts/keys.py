"""The accounts with their keys, all read and checked at the start."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from producers.credentials import is_loopback
from tidewire import accounts
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
            check_address(account.trading_url(settings))
            found.append(Keyed(account, *account.keys(settings)))
        except ConfigError as error:
            problems += [p for p in error.problems if p not in problems]
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def check_address(url: str) -> None:
    """Keys never cross a network in the clear. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError([f"TIDEWIRE_TRADING_URL must begin with https:// or http:// (got {url})"])
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            [
                f"TIDEWIRE_TRADING_URL is unencrypted (http://{parts.hostname}): your Alpaca keys would be "
                "readable on the way. Use https://, or http:// to this machine only."
            ]
        )
