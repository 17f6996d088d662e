"""Settings: read once at start from the environment and `.env`, checked whole, then passed down.

Nothing else reads the environment. A mistake is reported together with all others, as one message.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tidewire.errors import ConfigError

Feed = Literal["iex", "sip", "delayed_sip", "test"]
STOCK_FEEDS: tuple[Feed, ...] = get_args(Feed)

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
    tidewire_crypto_symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="crypto pairs, as BTC/USD, comma separated; * for all; empty: no crypto stream"
    )
    tidewire_crypto_location: Literal["us", "us-1", "eu-1"] = Field("us", description="crypto exchange")
    tidewire_option_symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="option contracts, as AAPL240315C00172500, comma separated; empty: no option stream"
    )
    tidewire_option_feed: Literal["indicative", "opra"] = Field(
        "indicative", description="indicative (free) or opra (paid)"
    )
    tidewire_plan: Literal["basic", "plus"] = Field(
        "basic",
        description="Alpaca's data plan: basic has 30 symbols a channel, 200 option quotes, 200 requests a "
        "minute and SIP history after 15 minutes; plus has all symbols, 1000 option quotes, 10000 requests",
    )
    tidewire_news_symbols: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",), description="news of these tickers, comma separated; * for all; - for no news stream"
    )
    tidewire_accounts_file: Path = Field(
        Path("accounts.toml"), description="the accounts, their key files and users"
    )
    tidewire_allow_live: bool = Field(
        False, description="true: accounts with mode = live in accounts.toml may be used; paper needs nothing"
    )
    tidewire_snapshot_seconds: float = Field(
        60, ge=1, description="how often account, positions and open orders are asked for over REST"
    )
    tidewire_trading_url: str | None = Field(None, description="trading API base URL instead of Alpaca's")
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
    tidewire_retention_tick_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days (UTC, of their own time) that trades and quotes stay in PostgreSQL; 0: for ever",
    )
    tidewire_retention_bar_days: int = Field(
        0, ge=0, le=36_500, description="days that bars stay in PostgreSQL; 0: for ever"
    )

    # -- completeness
    tidewire_backfill_days: float = Field(
        7, gt=0, description="gaps that began longer ago are named and not fetched"
    )
    tidewire_audit_quotes: int = Field(
        100, ge=1, description="of so many minutes of a symbol, one has its quotes compared with history"
    )
    tidewire_account_mode: Literal["stream", "hybrid", "poll"] = Field(
        "hybrid",
        description="stream: snapshots only at start and after reconnects; hybrid: also in between; "
        "poll: no trading stream, REST alone (emergency)",
    )

    # -- exits
    tidewire_market_hours: Literal["exchange", "always"] = Field(
        "exchange",
        description="when exits of stocks and options may fire: in the exchange's sessions, or (a simulated "
        "market) always",
    )

    # -- subscriptions
    tidewire_subscribe_positions: bool = Field(
        True, description="subscribe to the symbols of open positions while they are open"
    )
    tidewire_position_grace_seconds: float = Field(
        300, ge=0, description="how long a closed position's symbol stays subscribed"
    )
    tidewire_movers: bool = Field(
        False, description="subscribe to stocks up 30% on 5 times their usual volume (asks REST every minute)"
    )

    # -- RSS and webhooks
    tidewire_rss_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="feeds of news beside Alpaca's, comma separated URLs; empty: none"
    )
    tidewire_rss_seconds: float = Field(60, ge=5, description="between two looks at a feed")
    tidewire_webhook_secret: SecretStr | None = Field(
        None, description="shared secret of webhook senders; unset: no webhook service"
    )
    tidewire_webhook_host: str = Field("127.0.0.1", description="address of the webhook service")
    tidewire_webhook_port: int = Field(0, ge=0, le=65535, description="0: any free port")

    # -- signals
    tidewire_signals: bool = Field(
        False, description="tell of flash crashes, and of news that move a price, on `signals`"
    )

    # -- news
    tidewire_sentiment: Annotated[tuple[str, ...], NoDecode] = Field(
        ("processors.sentiment.lexicon:analyze",),
        description="analyzers of news, as module:function, comma separated; empty: none",
    )
    tidewire_sentiment_seconds: float = Field(5, gt=0, description="time that an analyzer has for an article")
    tidewire_score_half_life_hours: float = Field(
        6, gt=0, description="after so long a news score counts half in the watchlist score"
    )

    # -- gateway
    tidewire_gateway_host: str = Field("127.0.0.1", description="address of the gateway for clients")
    tidewire_gateway_port: int = Field(0, ge=0, le=65535, description="0: any free port")
    tidewire_gateway_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins of web pages that may connect, exactly, comma separated; its own always may"
    )
    tidewire_session_hours: float = Field(12, gt=0, description="how long a sign-in lasts")
    enable_realtime_portfolio: bool = Field(
        True, description="false: no sockets, clients poll /api/positions; /api/health says so"
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

    @field_validator(
        "tidewire_crypto_symbols", "tidewire_option_symbols", "tidewire_news_symbols", "tidewire_sentiment",
        "tidewire_gateway_origins", "tidewire_rss_urls", mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("tidewire_crypto_symbols")
    @classmethod
    def _check_pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        pairs = tuple(pair.upper() for pair in value)
        bad = [p for p in pairs if p != "*" and not (p.count("/") == 1 and p.replace("/", "").isalnum())]
        if bad:
            raise ValueError(f"not crypto pairs, as BTC/USD: {', '.join(bad)}")
        return pairs

    @field_validator("tidewire_option_symbols")
    @classmethod
    def _check_contracts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        contracts = tuple(contract.upper() for contract in value)
        bad = [c for c in contracts if c != "*" and not re.fullmatch(r"[A-Z0-9.]{1,6}\d{6}[CP]\d{8}", c)]
        if bad:
            raise ValueError(f"not option contracts, as AAPL240315C00172500: {', '.join(bad)}")
        return contracts

    @field_validator("tidewire_rss_urls")
    @classmethod
    def _check_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        bad = [url for url in value if not re.fullmatch(r"https?://\S+", url)]
        if bad:
            raise ValueError(f"not http(s) URLs: {', '.join(bad)}")
        return value

    @field_validator("tidewire_news_symbols")
    @classmethod
    def _check_news(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return () if value == ("-",) else tuple(symbol.upper() for symbol in value)

    @field_validator("tidewire_sentiment")
    @classmethod
    def _check_hooks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        bad = [hook for hook in value if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", hook)]
        if bad:
            raise ValueError(f"not module:function: {', '.join(bad)}")
        return value

    @field_validator("tidewire_gateway_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        bad = [origin for origin in value if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?", origin)]
        if bad:
            raise ValueError(f"not origins, as https://desk.example.com: {', '.join(bad)}")
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

    @field_validator("tidewire_home", "tidewire_accounts_file")
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
    def crypto_stream_url(self) -> str:
        """URL of the crypto data WebSocket."""
        return f"{self.tidewire_stream_url or _STREAM_HOST}/v1beta3/crypto/{self.tidewire_crypto_location}"

    @property
    def option_stream_url(self) -> str:
        """URL of the option data WebSocket of the chosen feed."""
        return f"{self.tidewire_stream_url or _STREAM_HOST}/v1beta1/{self.tidewire_option_feed}"

    @property
    def news_stream_url(self) -> str:
        """URL of the news WebSocket."""
        return f"{self.tidewire_stream_url or _STREAM_HOST}/v1beta1/news"

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


__all__ = ["STOCK_FEEDS", "Feed", "Settings", "load"]
