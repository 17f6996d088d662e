"""The key pair for the data socket, and the check that a real one never crosses a network in the clear."""

from __future__ import annotations

from urllib.parse import urlsplit

from tidewire.addresses import is_loopback
from tidewire.config import Settings
from tidewire.errors import ConfigError

DEMO_KEYS = ("demo-key", "demo-secret")
"""What the local simulator takes; worth nothing anywhere else."""


def keys(settings: Settings) -> tuple[str, str]:
    """Key id and secret.

    Raises:
        ConfigError: none is set, or real ones would be sent unencrypted to another machine.
    """
    url = urlsplit(settings.stream_url)
    here = is_loopback(url.hostname or "")
    if url.scheme not in ("ws", "wss"):
        raise ConfigError(
            [f"TIDEWIRE_STREAM_URL must begin with ws:// or wss:// (got {settings.tidewire_stream_url})"]
        )
    if settings.apca_api_key_id is None or settings.apca_api_secret_key is None:
        if settings.tidewire_stream_url is not None and here:
            return DEMO_KEYS
        raise ConfigError(
            [
                "APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set. Make a free paper key pair at "
                "https://app.alpaca.markets (paper trading, API keys), "
                "or run `tidewire demo`, which needs none."
            ]
        )
    if url.scheme == "ws" and not here:
        raise ConfigError(
            [
                f"TIDEWIRE_STREAM_URL is unencrypted (ws://{url.hostname}): your Alpaca keys "
                "would be readable on the way. Use wss://, or ws:// to this machine only."
            ]
        )
    return settings.apca_api_key_id.get_secret_value(), settings.apca_api_secret_key.get_secret_value()
