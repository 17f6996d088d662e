"""Keys out of every text that leaves the process: what a server echoes may hold them. Pure."""

from __future__ import annotations

from pydantic import SecretStr

MARK = "[redacted]"
_SHORTEST = 6
"""Shorter ones are in every other word, and no keys of Alpaca."""


class Redactor:
    """Replaces the parts of one account's key pair."""

    def __init__(self, *secrets: SecretStr) -> None:
        texts = {secret.get_secret_value() for secret in secrets}
        # The longest first: a key id may begin as the secret does.
        self._texts = sorted((t for t in texts if len(t) >= _SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without keys."""
        for secret in self._texts:
            text = text.replace(secret, MARK)
        return text

    def bytes(self, raw: bytes) -> bytes:
        """The bytes without keys; unchanged when there are none, as almost always."""
        for secret in self._texts:
            raw = raw.replace(secret.encode(), MARK.encode())
        return raw
