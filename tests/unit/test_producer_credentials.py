"""Keys that travel in the clear, or a message that does not say which keys are missing, cost the user an
account or an hour.
"""

from __future__ import annotations

import pytest

from producers.credentials import DEMO_KEYS, keys
from tidewire import config
from tidewire.addresses import is_loopback
from tidewire.config import Settings
from tidewire.errors import ConfigError


def _settings(url: str | None, with_keys: bool) -> Settings:
    pair = {"apca_api_key_id": "real-id", "apca_api_secret_key": "real-secret"} if with_keys else {}
    return config.load(_env_file=None, tidewire_stream_url=url, **pair)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"])
def test_the_local_simulator_needs_no_keys_and_takes_given_ones(host: str) -> None:
    url = f"ws://{host}:8080"
    assert keys(_settings(url, False)) == DEMO_KEYS
    assert keys(_settings(url, True)) == ("real-id", "real-secret")


@pytest.mark.parametrize(
    "url", [None, "wss://stream.example.com", "ws://192.0.2.1:80", "ws://localhost.example.com"]
)
def test_missing_keys_are_both_named_with_where_to_get_them(url: str | None) -> None:
    with pytest.raises(
        ConfigError, match=r"APCA_API_KEY_ID and APCA_API_SECRET_KEY .*https://app.alpaca.markets"
    ):
        keys(_settings(url, False))


@pytest.mark.parametrize(
    "url", ["ws://192.0.2.1:80", "ws://127.0.0.1.example.com", "ws://localhost.example.com", "ws://"]
)
def test_real_keys_never_cross_a_network_unencrypted(url: str) -> None:
    with pytest.raises(ConfigError, match="unencrypted") as error:
        keys(_settings(url, True))
    assert "real-" not in str(error.value)


def test_real_keys_go_to_alpaca_over_tls() -> None:
    assert keys(_settings(None, True)) == ("real-id", "real-secret")


def test_an_address_that_is_no_websocket_is_said_to_be_none() -> None:
    with pytest.raises(ConfigError, match="ws:// or wss://"):
        keys(_settings("https://127.0.0.1:1", True))


def test_loopback_is_not_guessed_from_the_text() -> None:
    assert not is_loopback("127.0.0.1.example.com")
    assert not is_loopback("")
