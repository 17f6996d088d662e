"""Passwords: argon2id, checked off the event loop, few at a time, with the same work for unknown users."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

SHORTEST = 8
LONGEST = 256
"""Characters. Without an upper bound hashing a password could be made to take any time."""

_AT_ONCE = 2
_MOST_WAITING = 16

# OWASP's parameters for argon2id: 19 MiB, two passes. More memory each would be a lever against the service.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


class Busy(Exception):  # named as the answer says it
    """More sign-ins wait than are worth waiting for."""


def hashed(password: str) -> str:
    """The argon2id hash to store."""
    return _hasher.hash(password)


def problem(password: str) -> str | None:
    """Why a password is not taken for a user; None: it is."""
    if len(password) < SHORTEST:
        return f"a password has at least {SHORTEST} characters"
    return f"a password has at most {LONGEST} characters" if len(password) > LONGEST else None


def matches(stored: str | None, password: str) -> bool:
    """Whether it is the password. `stored` None (no such user): as much work, and False."""
    try:
        _hasher.verify(_nobody() if stored is None else stored, password)
    except (Argon2Error, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobody() -> str:
    return hashed("a user who does not exist")


class Checker:
    """Checks passwords in a few threads of its own; a flood of sign-ins does not disturb the sockets."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0

    async def matches(self, stored: str | None, password: str) -> bool:
        """As `matches`.

        Raises:
            Busy: too many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, matches, stored, password)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads once they are done."""
        self._threads.shutdown(wait=False, cancel_futures=True)
