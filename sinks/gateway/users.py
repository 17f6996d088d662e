"""Users, their sessions and one-time links, for commands and local programs: each call is one transaction.

Every function takes the database's URL, brings its tables up to date, and raises UnreachableError when
PostgreSQL does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sinks.gateway import passwords, store, tokens
from sinks.postgres import connection, migrate
from tidewire.accounts import NAME
from tidewire.errors import ConfigError

PROGRAM_HOURS = 12.0


@dataclass(frozen=True, slots=True)
class User:
    """One user as `tidewire users list` shows it."""

    name: str
    has_password: bool
    created_at: datetime
    sessions: int


def add(database_url: str, name: str, password: str | None) -> None:
    """Make a user; without a password only one-time links let it in.

    Raises:
        ConfigError: the name or the password is not taken, or the user exists.
    """
    _check(name, password)
    with _open(database_url) as db:
        if not store.add_user(db, name, None if password is None else passwords.hashed(password)):
            raise ConfigError([f"user {name} exists already; `tidewire users password {name}` changes it"])


def ensure_user(database_url: str, name: str) -> None:
    """Make a user without a password unless it exists."""
    _check(name, None)
    with _open(database_url) as db:
        store.add_user(db, name, None)


def users(database_url: str) -> list[User]:
    """All users, by name, with the number of their valid sessions."""
    with _open(database_url) as db:
        return [User(*row) for row in store.users(db)]


def remove(database_url: str, name: str) -> None:
    """Take a user away; its sessions end and its sockets are closed within a second.

    Raises:
        ConfigError: no such user.
    """
    with _open(database_url) as db:
        if not store.remove_user(db, name):
            raise _unknown(name)


def set_password(database_url: str, name: str, password: str) -> None:
    """Give a user another password; all its sessions and links end.

    Raises:
        ConfigError: no such user, or the password is not taken.
    """
    _check(name, password)
    with _open(database_url) as db:
        if not store.set_password(db, name, passwords.hashed(password)):
            raise _unknown(name)


def one_time_link(database_url: str, name: str) -> str:
    """The token of a sign-in that works once, within ten minutes: `<gateway>/sign-in/<token>`.

    Raises:
        ConfigError: no such user.
    """
    token = tokens.new()
    with _open(database_url) as db:
        if not store.add_link(db, name, tokens.digest(token), tokens.LINK_MINUTES):
            raise _unknown(name)
    return token


def mint_session(database_url: str, name: str, hours: float = PROGRAM_HOURS) -> str:
    """A session for a local program, as the Cookie header's `name=value`.

    Raises:
        ConfigError: no such user.
    """
    token = tokens.new()
    with _open(database_url) as db:
        if not store.add_session(db, name, tokens.digest(token), hours):
            raise _unknown(name)
    return f"{tokens.COOKIE}={token}"


@contextmanager
def _open(database_url: str) -> Iterator[connection.Connection]:
    with connection.connect(database_url) as db:
        migrate.apply_to(db, migrate.packaged())
        with db.transaction():
            yield db


def _check(name: str, password: str | None) -> None:
    problems = []
    if not NAME.fullmatch(name):
        problems.append(
            f"{name!r}: a user name is up to 40 of a-z 0-9 . _ - and begins with a letter or digit"
        )
    if password is not None and (reason := passwords.problem(password)):
        problems.append(reason)
    if problems:
        raise ConfigError(problems)


def _unknown(name: str) -> ConfigError:
    return ConfigError([f"no user {name}; `tidewire users list` shows them, `tidewire users add` makes one"])
