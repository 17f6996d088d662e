"""The statements about users, sessions and one-time links. Plain functions of an open connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sinks.postgres.connection import Connection


def add_user(db: Connection, name: str, password_hash: str | None) -> bool:
    """Insert a user; False: it exists."""
    query = "INSERT INTO gateway_users (name, password_hash) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    return db.execute(query, (name, password_hash)).rowcount == 1


def users(db: Connection) -> list[tuple[Any, ...]]:
    """Name, whether there is a password, time of creation, valid sessions."""
    return db.execute(
        """SELECT u.name, u.password_hash IS NOT NULL, u.created_at, count(s.token_hash)
           FROM gateway_users u
           LEFT JOIN gateway_sessions s ON s.user_name = u.name AND s.expires_at > now()
           GROUP BY u.name ORDER BY u.name"""
    ).fetchall()


def remove_user(db: Connection, name: str) -> bool:
    """Delete a user with its sessions and links; False: there is none."""
    return db.execute("DELETE FROM gateway_users WHERE name = %s", (name,)).rowcount == 1


def set_password(db: Connection, name: str, password_hash: str) -> bool:
    """Change a password and end what the old one let in; False: no such user."""
    query = "UPDATE gateway_users SET password_hash = %s WHERE name = %s"
    if db.execute(query, (password_hash, name)).rowcount != 1:
        return False
    db.execute("DELETE FROM gateway_sessions WHERE user_name = %s", (name,))
    db.execute("DELETE FROM gateway_links WHERE user_name = %s", (name,))
    return True


def password_hash(db: Connection, name: str) -> str | None:
    """The stored hash; None without a user or a password."""
    row = db.execute("SELECT password_hash FROM gateway_users WHERE name = %s", (name,)).fetchone()
    return None if row is None else row[0]


def add_session(db: Connection, name: str, token_hash: bytes, hours: float) -> bool:
    """Begin a session; False: no such user. Sessions and links that are over are cleared away."""
    db.execute("DELETE FROM gateway_sessions WHERE expires_at < now()")
    db.execute("DELETE FROM gateway_links WHERE expires_at < now()")
    query = """INSERT INTO gateway_sessions (token_hash, user_name, expires_at)
               SELECT %s, name, now() + make_interval(secs => %s) FROM gateway_users WHERE name = %s"""
    return db.execute(query, (token_hash, hours * 3600, name)).rowcount == 1


def sessions(db: Connection, token_hashes: Sequence[bytes]) -> list[tuple[bytes, str, datetime]]:
    """Those of the sessions that are valid: hash, user, end."""
    query = """SELECT token_hash, user_name, expires_at FROM gateway_sessions
               WHERE token_hash = ANY(%s) AND expires_at > now()"""
    return [(bytes(a), b, c) for a, b, c in db.execute(query, (list(token_hashes),)).fetchall()]


def end_session(db: Connection, token_hash: bytes) -> None:
    """Delete a session, if there is one."""
    db.execute("DELETE FROM gateway_sessions WHERE token_hash = %s", (token_hash,))


def add_link(db: Connection, name: str, token_hash: bytes, minutes: float) -> bool:
    """Store a one-time link; False: no such user."""
    query = """INSERT INTO gateway_links (token_hash, user_name, expires_at)
               SELECT %s, name, now() + make_interval(secs => %s) FROM gateway_users WHERE name = %s"""
    return db.execute(query, (token_hash, minutes * 60, name)).rowcount == 1


def use_link(db: Connection, token_hash: bytes) -> str | None:
    """Use a link up: its user; None: never was, used, or too old. One statement, so it works once."""
    query = "DELETE FROM gateway_links WHERE token_hash = %s RETURNING user_name, expires_at > now()"
    row = db.execute(query, (token_hash,)).fetchone()
    return row[0] if row is not None and row[1] else None
