"""Tokens of sessions and one-time links: 256 random bits, known to their holder only; we keep the SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets

COOKIE = "tidewire_session"
LINK_MINUTES = 10

_FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def new() -> str:
    """A token as text for a cookie or a URL."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is stored. Random tokens need no slow hash: there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()


def well_formed(token: str) -> bool:
    """Whether `new` could have made it: anything else need not be looked up."""
    return _FORM.fullmatch(token) is not None
