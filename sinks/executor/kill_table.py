"""The kill switch in PostgreSQL: the table kill_switch, for executors on every machine."""

from __future__ import annotations

import psycopg

from sinks.executor.kill_file import ALL
from sinks.postgres import connection, migrate
from sinks.postgres.connection import Connection
from tidewire.errors import ConfigError, TidewireError, UnreachableError

_TIMEOUT = "SET statement_timeout = '3s'; SET lock_timeout = '3s'"
_SET = """INSERT INTO kill_switch (account, is_on, reason, set_by) VALUES (%s, %s, %s, %s)
ON CONFLICT (account) DO UPDATE
SET is_on = excluded.is_on, reason = excluded.reason, set_by = excluded.set_by, set_at = now()"""


def why_on(database: Connection, account: str) -> str | None:
    """Why the table says that the switch is on for an account; None: it says off.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    rows = database.execute(
        "SELECT account, is_on, reason, set_by FROM kill_switch WHERE account = ANY(%s)", ([ALL, account],)
    ).fetchall()
    found = {row[0]: row[1:] for row in rows}
    if ALL not in found:
        return "the table kill_switch has no row for all accounts"
    for name, which in ((ALL, "all accounts"), (account, "this account")):
        is_on, reason, set_by = found.get(name, (False, "", ""))
        if is_on is not False:
            return f"on for {which} by {set_by}" + (f": {reason}" if reason else "")
    return None


def turn(database: Connection, account: str, on: bool, reason: str, by: str) -> None:
    """Switch for an account, or for ALL; ALL off switches every account off.

    Raises:
        psycopg.Error: it could not be written.
    """
    with database.transaction():
        if account == ALL and not on:
            database.execute(
                "UPDATE kill_switch SET is_on = false, reason = '', set_by = %s, set_at = now()", (by,)
            )
        database.execute(_SET, (account, on, reason, by))


def open_quickly(url: str) -> Connection:
    """A connection whose statements end within seconds, one way or the other.

    Raises:
        psycopg.Error, ConfigError: there is none.
    """
    database = connection.open_connection(url)
    database.execute(_TIMEOUT)
    return database


def turn_at(url: str | None, account: str, on: bool, reason: str, by: str) -> None:
    """`turn` with a connection of its own, in a database that no migration may have reached yet.

    Raises:
        TidewireError: it could not be written.
    """
    if url is None:
        raise ConfigError(["DATABASE_URL is not set and no local stack runs"])
    try:
        with open_quickly(url) as database:
            try:
                turn(database, account, on, reason, by)
            except psycopg.errors.UndefinedTable:
                migrate.apply_to(database, migrate.packaged())
                turn(database, account, on, reason, by)
    except psycopg.Error as error:
        raise UnreachableError(f"PostgreSQL: {connection.reason(error, url)}") from None


def why_on_at(url: str | None, account: str) -> str | None:
    """`why_on` with a connection of its own; a table that cannot be read is a reason."""
    if url is None:
        return "DATABASE_URL is not set and no local stack runs"
    try:
        with open_quickly(url) as database:
            return why_on(database, account)
    except psycopg.Error as error:
        return f"PostgreSQL cannot be read: {connection.reason(error, url)}"
    except TidewireError as error:
        return f"PostgreSQL cannot be read: {error}"
