"""Whether a request comes from who knows the secret, and comes now. Pure.

    X-Tidewire-Timestamp   seconds since 1970 UTC, when the request was signed; up to nine decimals
    X-Tidewire-Signature   hex HMAC-SHA256 of "<timestamp>.<raw body>" under TIDEWIRE_WEBHOOK_SECRET
    X-Tidewire-Event-Id    1 to 128 of A-Z a-z 0-9 . _ : - ; another for each event, the same when sent again

The event id is not signed. So a signature is taken once as well: a recorded request under a new event id is
as much a repeat as the same event id under a new signature. Two events with one body in one second need
decimals in their timestamps.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidewire.clock import NS_PER_SECOND

TIMESTAMP = "X-Tidewire-Timestamp"
SIGNATURE = "X-Tidewire-Signature"
EVENT_ID = "X-Tidewire-Event-Id"
WINDOW_SECONDS = 300
"""So far may the timestamp be from now, either way."""
_SECONDS = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RefusedRequestError(Exception):
    """A request that is not taken. `outcome` is that of the metric; the text goes to the sender."""

    def __init__(self, status: int, outcome: str, reason: str) -> None:
        self.status, self.outcome = status, outcome
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Claims:
    """What the headers say, well formed and not yet proved."""

    timestamp: str
    signature: str
    event_id: str


def claims(headers: Mapping[str, str], now_ns: int) -> Claims:
    """The headers of a request that came now. Raises RefusedRequestError."""
    timestamp, signature, event = (headers.get(name, "") for name in (TIMESTAMP, SIGNATURE, EVENT_ID))
    at = _SECONDS.fullmatch(timestamp)
    if at is None or not _HEX.fullmatch(signature):
        raise RefusedRequestError(401, "unsigned", f"{TIMESTAMP} and {SIGNATURE} are needed")
    age = now_ns - int(at[1]) * NS_PER_SECOND - int((at[2] or "").ljust(9, "0"))
    if age > WINDOW_SECONDS * NS_PER_SECOND:
        raise RefusedRequestError(401, "stale", f"signed more than {WINDOW_SECONDS} s ago")
    if age < -WINDOW_SECONDS * NS_PER_SECOND:
        raise RefusedRequestError(401, "future", f"signed more than {WINDOW_SECONDS} s ahead of this clock")
    if not _ID.fullmatch(event):
        raise RefusedRequestError(400, "malformed", f"{EVENT_ID} is needed: 1 to 128 of A-Z a-z 0-9 . _ : -")
    return Claims(timestamp, signature, event)


def prove(claimed: Claims, body: bytes, secret: bytes) -> None:
    """Compare in constant time. Raises RefusedRequestError."""
    # `expected` is as long as what is compared with it, and says nothing about the secret.
    expected = sign(claimed.timestamp, body, secret)
    if not hmac.compare_digest(expected.encode(), claimed.signature.encode()):
        raise RefusedRequestError(401, "altered", "the signature does not fit the body and the timestamp")


def sign(timestamp: str, body: bytes, secret: bytes) -> str:
    """The signature of a body, as a sender makes it."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
