"""One connection to PostgreSQL, as every part of the sink wants it; its password is never shown."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import conninfo

from tidewire.config import Settings
from tidewire.errors import ConfigError, UnreachableError

Connection = psycopg.Connection[tuple[Any, ...]]

# A peer that vanished without a word is noticed within about 20 s.
_KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def url(settings: Settings) -> str:
    """The database's URL.

    Raises:
        ConfigError: none is named and no local stack has been filled in.
    """
    if settings.database_url is None:
        raise ConfigError(["DATABASE_URL is not set and no local stack runs: `tidewire stack up`"])
    return settings.database_url.get_secret_value()


def where(database_url: str) -> str:
    """Host, port, database and user of a URL, for messages: without the password."""
    try:
        parts = conninfo.conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        return "DATABASE_URL"
    host, port = parts.get("host", "localhost"), parts.get("port", 5432)
    return (
        f"{host}:{port}, database {parts.get('dbname', '(default)')}, user {parts.get('user', '(default)')}"
    )


def reason(error: BaseException, database_url: str) -> str:
    """What PostgreSQL or libpq said, on one line, without the password."""
    text = " ".join(str(error).split()) or type(error).__name__
    try:
        password = conninfo.conninfo_to_dict(database_url).get("password")
    except psycopg.ProgrammingError:
        return text.replace(database_url, "DATABASE_URL")
    return text.replace(str(password), "***") if password else text


def open_connection(database_url: str) -> Connection:
    """A new connection with autocommit, UTC and UTF-8. PostgreSQL ends a transaction in which nothing happens
    for a minute: a process that was stopped in it would hold its locks for as long as it is stopped.

    Raises:
        psycopg.OperationalError: PostgreSQL does not answer or does not let us in.
        ConfigError: the URL is none.
    """
    assert psycopg.pq.__impl__ != "python", "COPY needs psycopg's C build"
    try:
        connection = psycopg.connect(
            database_url,
            autocommit=True,
            connect_timeout=5,
            application_name="tidewire-sink",
            client_encoding="UTF8",
            **_KEEPALIVE,
        )
    except psycopg.ProgrammingError as error:
        raise ConfigError([f"DATABASE_URL is not a PostgreSQL URL: {reason(error, database_url)}"]) from None
    connection.execute("SET TIME ZONE 'UTC'; SET idle_in_transaction_session_timeout = '60s'")
    return connection


def connect(database_url: str, patience: float = 0.0) -> Connection:
    """A new connection, tried again for `patience` seconds.

    Raises:
        UnreachableError: PostgreSQL did not answer in that time; says where it was looked for.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return open_connection(database_url)
        except psycopg.OperationalError as error:
            if time.monotonic() >= deadline:
                raise UnreachableError(
                    f"PostgreSQL does not answer at {where(database_url)}: {reason(error, database_url)}. "
                    "Check DATABASE_URL, or unset it to use the local stack (`tidewire stack up`)."
                ) from None
        time.sleep(0.5)
