"""Settings: read once at start from the environment and `.env`, checked whole, then passed down.

Nothing else reads the environment. A mistake is reported together with all others, as one message.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tidewire.errors import ConfigError

Feed = Literal["iex", "sip", "delayed_sip", "test"]

_STREAM_HOST = "wss://stream.data.alpaca.markets"
_DATA_HOST = "https://data.alpaca.markets"


class Settings(BaseSettings):
    """All settings of one process. Field names are the environment variables in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True
    )

    # -- Alpaca
    apca_api_key_id: SecretStr | None = Field(None, description="Alpaca API key id (paper by default)")
    apca_api_secret_key: SecretStr | None = Field(None, description="Alpaca API secret key")
    tidewire_feed: Feed = Field("iex", description="iex (free), sip (paid), delayed_sip, or test (FAKEPACA)")
    tidewire_symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        ("AAPL", "MSFT", "SPY"), description="stock symbols, comma separated; * for all that the feed has"
    )
    tidewire_stream_url: str | None = Field(None, description="WebSocket base URL instead of Alpaca's")
    tidewire_data_url: str | None = Field(None, description="REST base URL instead of Alpaca's")

    # -- Kafka
    kafka_bootstrap_servers: str | None = Field(None, description="host:port[,...]; unset: the local stack")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    schema_registry_url: str | None = Field(None, description="unset: ids come from schemas/lock.json")
    tidewire_topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,60}$", description="put before every topic and consumer group"
    )
    tidewire_partitions: int | None = Field(
        None, ge=1, le=512, description="partitions of symbol-keyed topics when they are created (4 locally)"
    )

    # -- PostgreSQL
    database_url: SecretStr | None = Field(None, description="postgresql://...; unset: the local stack")
    tidewire_sink_dead_letters: int = Field(
        100, ge=0, description="records that the sink may give up of a small batch before it stops"
    )

    # -- this process
    tidewire_home: Path = Field(Path(".tidewire"), description="data of the local stack, logs, run files")
    tidewire_http_host: str = Field("127.0.0.1", description="address of /metrics and /health")
    tidewire_http_port: int = Field(0, ge=0, le=65535, description="0: any free port")
    tidewire_log: Literal["console", "json"] = "console"
    tidewire_log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("tidewire_symbols", mode="before")
    @classmethod
    def _split_symbols(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(s.strip().upper() for s in value.split(",") if s.strip()))
        return value

    @field_validator("tidewire_symbols")
    @classmethod
    def _check_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one symbol, or *")
        bad = [s for s in value if s != "*" and not all(c.isalnum() or c in ".-/" for c in s)]
        if bad:
            raise ValueError(f"not stock symbols: {', '.join(bad)}")
        return value

    @field_validator("tidewire_home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        problems = []
        if (self.apca_api_key_id is None) != (self.apca_api_secret_key is None):
            problems.append("APCA_API_KEY_ID and APCA_API_SECRET_KEY go together: set both or neither")
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            problems.append(
                "KAFKA_SECURITY_PROTOCOL=SASL_* needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        if (self.kafka_ssl_certfile is None) != (self.kafka_ssl_keyfile is None):
            problems.append("KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE go together")
        for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                problems.append(f"{name.upper()}: no such file: {path}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def stream_url(self) -> str:
        """URL of the stock data WebSocket of the chosen feed."""
        return f"{self.tidewire_stream_url or _STREAM_HOST}/v2/{self.tidewire_feed}"

    @property
    def data_url(self) -> str:
        """Base URL of the market-data REST API (without /v2)."""
        return self.tidewire_data_url or _DATA_HOST

    @property
    def symbols(self) -> tuple[str, ...]:
        """The subscribed symbols; Alpaca's test stream has only FAKEPACA."""
        return ("FAKEPACA",) if self.tidewire_feed == "test" else self.tidewire_symbols

    @property
    def stack_file(self) -> Path:
        """Where the running local stack says its addresses."""
        return self.tidewire_home / "run" / "stack.json"


def load(**overrides: Any) -> Settings:
    """Read the settings; keyword arguments win over the environment.

    Raises:
        ConfigError: one message with every wrong value and every unknown TIDEWIRE_ variable.
    """
    problems = _unknown_names(os.environ)
    settings = None
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems += [_readable(e) for e in error.errors()]
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = [name.upper() for name in Settings.model_fields]
    problems = []
    for name in sorted(environ):
        if name.startswith("TIDEWIRE_") and name not in known and not name.startswith("TIDEWIRE_TEST_"):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else "; `tidewire init` lists the known ones"
            problems.append(f"{name}: no such setting{hint}")
    return problems


def _readable(error: Mapping[str, object]) -> str:
    location = error["loc"]
    assert isinstance(location, tuple)
    message = str(error["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0]).upper()
    secret = any(word in name for word in ("SECRET", "PASSWORD", "KEY", "DATABASE_URL"))
    given = "" if secret else f" (got {error.get('input')!r})"
    return f"{name}: {message}{given}"


__all__ = ["Feed", "Settings", "load"]
