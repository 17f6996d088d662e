"""Where keys may be sent: encrypted, or to this machine. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tidewire.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_trading(url: str) -> None:
    """Keys never cross a network in the clear. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError([f"TIDEWIRE_TRADING_URL must begin with https:// or http:// (got {url})"])
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            [
                f"TIDEWIRE_TRADING_URL is unencrypted (http://{parts.hostname}): your Alpaca keys would be "
                "readable on the way. Use https://, or http:// to this machine only."
            ]
        )
