"""One look at a feed over HTTP: conditional, bounded in bytes and time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout

from producers.rss.articles import host

REQUEST_SECONDS = 20.0
CONNECT_SECONDS = 5.0
LARGEST_BODY = 4 * 1024 * 1024
"""Bytes, after decompression."""
MOST_REDIRECTS = 5
_PIECE = 64 * 1024
_AGENT = "tidewire"


@dataclass(frozen=True, slots=True)
class Document:
    """A feed as it was sent, with what to say at the next look."""

    body: bytes
    content_type: str
    etag: str | None
    modified: str | None

    @property
    def digest(self) -> bytes:
        """The same for the same bytes."""
        return hashlib.sha256(self.body).digest()


class LookError(Exception):
    """A look that brought nothing. `outcome` is that of the metric; the text never holds the feed's path."""

    def __init__(self, outcome: str, reason: str) -> None:
        self.outcome = outcome
        super().__init__(reason)


async def look(
    session: ClientSession,
    url: str,
    former: Document | None,
    *,
    seconds: float = REQUEST_SECONDS,
    largest: int = LARGEST_BODY,
) -> Document | None:
    """The document, or None when it is the same as `former`. Raises LookError."""
    headers = {
        "User-Agent": _AGENT,
        "Accept": "application/rss+xml, application/atom+xml, application/xml, */*",
    }
    if former is not None and former.etag:
        headers["If-None-Match"] = former.etag
    if former is not None and former.modified:
        headers["If-Modified-Since"] = former.modified
    timeout = ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
    try:
        async with session.get(
            url, headers=headers, timeout=timeout, max_redirects=MOST_REDIRECTS
        ) as response:
            if response.status == 304 and former is not None:
                return None
            if response.status != 200:
                raise LookError("failed", f"HTTP {response.status} from {host(url)}")
            body = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                body += piece
                if len(body) > largest:
                    raise LookError("too_big", f"{host(url)} sent more than {largest} bytes")
            found = Document(
                bytes(body),
                response.headers.get("Content-Type", "")[:200],
                response.headers.get("ETag"),
                response.headers.get("Last-Modified"),
            )
    except TimeoutError:
        raise LookError("slow", f"{host(url)} did not answer within {seconds:g} s") from None
    except (ClientError, OSError, ValueError) as error:
        # Not the error's own words: they may hold the whole URL.
        raise LookError("failed", f"{host(url)}: {type(error).__name__}") from None
    return None if former is not None and former.digest == found.digest else found
