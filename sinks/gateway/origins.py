"""Which web pages may talk to the gateway: its own, and those of TIDEWIRE_GATEWAY_ORIGINS, exactly. Pure.

A browser always says where a page that opens a socket or sends a form came from, and a page cannot change
that. A program says nothing: it holds the cookie itself, nobody can make it send one unwillingly.
"""

from __future__ import annotations

from collections.abc import Collection

_SCHEMES = ("http://", "https://")


def allowed(origin: str | None, host: str, named: Collection[str]) -> bool:
    """Whether a request with this Origin header (None: without one) to this Host may be served."""
    if origin is None:
        return True
    return origin in named or (bool(host) and origin in [scheme + host for scheme in _SCHEMES])
