"""The brokerage accounts of an installation: accounts.toml, read once and checked whole.

::

    admins = ["anna"]             # users who may work the kill switch through the gateway

    [accounts.paper-1]
    key_file = "keys/paper-1"     # two lines, id and secret; relative to this file; mode 600
    mode = "paper"                # the default; "live" also needs TIDEWIRE_ALLOW_LIVE=true
    users = ["anna", "ben"]       # who may see it through the gateway

    [accounts.paper-1.risk]       # what its orders may be at most; see risk_limits.py
    max_notional = 25000

    [[accounts.paper-1.exits.us_equity]]   # default exits of its positions; see exit_policy.py
    kind = "stop_loss"
    percent = 5

Without the file, APCA_API_KEY_ID and APCA_API_SECRET_KEY are one paper account named "default". An account
without key_file uses them too. The name is the account's id on every topic.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from tidewire import exit_policy, risk_limits
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.risk_limits import RiskLimits

Mode = Literal["paper", "live"]

DEFAULT = "default"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""Names of accounts and users: they stand in Kafka keys (which join parts by `:`), files and addresses."""

_HOSTS = {"paper": "https://paper-api.alpaca.markets", "live": "https://api.alpaca.markets"}
_KNOWN = {"key_file", "mode", "users", "risk", "exits"}
_KEY = re.compile(r"[A-Za-z0-9+=]{16,}")
"""A key or secret that was put where its file's name belongs; the message must not repeat it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account. Its keys are read only when asked for, and never shown."""

    name: str
    mode: Mode = "paper"
    users: tuple[str, ...] = ()
    key_file: Path | None = None
    risk: RiskLimits = risk_limits.SAFE
    exits: exit_policy.Policy = ()

    def trading_url(self, settings: Settings) -> str:
        """Base URL of the trading API, without /v2."""
        return settings.tidewire_trading_url or _HOSTS[self.mode]

    def trading_stream_url(self, settings: Settings) -> str:
        """URL of the trade-updates WebSocket."""
        return re.sub(r"^http", "ws", self.trading_url(settings)) + "/stream"

    def keys(self, settings: Settings) -> tuple[SecretStr, SecretStr]:
        """Key id and secret.

        Raises:
            ConfigError: there are none, or the file is not two lines that only its owner can read.
        """
        if self.key_file is not None:
            return _read_keys(self.name, self.key_file)
        if settings.apca_api_key_id is None or settings.apca_api_secret_key is None:
            raise ConfigError(
                [
                    f"account {self.name} has no key_file, and APCA_API_KEY_ID and APCA_API_SECRET_KEY "
                    "are not set"
                ]
            )
        return settings.apca_api_key_id, settings.apca_api_secret_key


def load(settings: Settings) -> tuple[Account, ...]:
    """Every account, in the file's order; none when there is neither a file nor a key pair.

    Raises:
        ConfigError: every mistake of the file in one message.
    """
    path = settings.tidewire_accounts_file
    if not path.is_file():
        return (Account(DEFAULT),) if settings.apca_api_key_id is not None else ()
    document = _document(path)
    tables = document.get("accounts", {})
    problems: list[str] = []
    _admins(path, document, problems)
    if not isinstance(tables, dict) or not tables:
        raise ConfigError([f"{path}: no [accounts.NAME] in it"])
    accounts = tuple(_account(path, name, table, settings, problems) for name, table in tables.items())
    if problems:
        raise ConfigError(problems)
    return accounts


def admins(settings: Settings) -> frozenset[str]:
    """The users who may work the kill switch through the gateway; none when the file names none.

    Raises:
        ConfigError: the file cannot be read, or its list is none.
    """
    path = settings.tidewire_accounts_file
    if not path.is_file():
        return frozenset()
    problems: list[str] = []
    found = _admins(path, _document(path), problems)
    if problems:
        raise ConfigError(problems)
    return found


def visible_to(accounts: tuple[Account, ...], user: str) -> frozenset[str]:
    """The names of the accounts that a user may see."""
    return frozenset(account.name for account in accounts if user in account.users)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from error


def _admins(path: Path, document: dict[str, Any], problems: list[str]) -> frozenset[str]:
    given = document.get("admins", [])
    if not isinstance(given, list) or not all(isinstance(u, str) and NAME.fullmatch(u) for u in given):
        problems.append(f"{path}: admins must be a list of user names (a-z 0-9 . _ -)")
        return frozenset()
    return frozenset(given)


def _account(path: Path, name: str, table: Any, settings: Settings, problems: list[str]) -> Account:
    where = f"{path}: accounts.{name}"
    if not NAME.fullmatch(name):
        problems.append(f"{where}: a name is up to 40 of a-z 0-9 . _ - and begins with a letter or digit")
    if not isinstance(table, dict):
        problems.append(f"{where} is not a table")
        return Account(name)
    problems += [
        f"{where}: unknown key {key}; known are {', '.join(sorted(_KNOWN))}" for key in table.keys() - _KNOWN
    ]
    mode, users, key_file = table.get("mode", "paper"), table.get("users", []), table.get("key_file")
    if mode not in _HOSTS:
        problems.append(f"{where}.mode must be paper or live")
    if mode == "live" and not settings.tidewire_allow_live:
        problems.append(f"{where}.mode is live: that also needs TIDEWIRE_ALLOW_LIVE=true")
    if not isinstance(users, list) or not all(isinstance(u, str) and NAME.fullmatch(u) for u in users):
        problems.append(f"{where}.users must be a list of user names (a-z 0-9 . _ -)")
        users = []
    if key_file is not None and (not isinstance(key_file, str) or _KEY.fullmatch(key_file)):
        problems.append(f"{where}.key_file must be the path of a file; keys themselves never stand here")
        key_file = None
    risk = risk_limits.read(f"{where}.risk", table.get("risk", {}), problems)
    exits = exit_policy.read(f"{where}.exits", table.get("exits", {}), problems)
    path_of_keys = None if key_file is None else path.parent / key_file
    return Account(name, mode, tuple(users), path_of_keys, risk, exits)


def _read_keys(name: str, path: Path) -> tuple[SecretStr, SecretStr]:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError([f"account {name}: {path} can be read by others: chmod 600 {path}"])
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError([f"account {name}: cannot read {path}: {reason}"]) from None
    if len(lines) != 2:
        raise ConfigError(
            [f"account {name}: {path} must be two lines, key id and secret ({len(lines)} found)"]
        )
    return SecretStr(lines[0]), SecretStr(lines[1])
