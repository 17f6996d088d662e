"""Which feeds a configuration asks for, and what is particular to each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from producers.channel import Encoder
from producers.connection import Advice
from producers.encoders import encoder as encoder_of
from producers.subscriptions import AUTOMATIC, CHANNELS, CRYPTO_CHANNELS, OPTION_CHANNELS, TEST_CHANNELS
from schemas.codec import Codec
from tidewire.config import Settings

BASIC_SYMBOLS = 30
"""Stocks of a channel on Alpaca's basic plan."""
BASIC_OPTION_QUOTES, PLUS_OPTION_QUOTES = 200, 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """One feed. `name` is that of control.connections, `label` that of the metrics.

    `open_as` is the feed's name in control.subscriptions; None: nobody can add to it. `encoder` makes the
    feed's encoder for an owner epoch. `limits`: channel to the number of symbols that Alpaca's plan allows.
    """

    name: str
    label: str
    url: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...]
    automatic: tuple[str, ...]
    open_as: str | None
    encoder: Callable[[Codec, int], Encoder]
    advice: Advice
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)


def plans(settings: Settings) -> tuple[Plan, ...]:
    """The feeds to run, stocks first. Alpaca's test stream stands alone: it is for trying the keys."""
    if settings.tidewire_feed == "test":
        return (_stocks(settings),)
    chosen = [_stocks(settings)]
    if settings.tidewire_option_symbols:
        chosen.append(_options(settings))
    if settings.tidewire_crypto_symbols:
        chosen.append(_crypto(settings))
    if settings.tidewire_news_symbols:
        chosen.append(_news(settings))
    return tuple(chosen)


def _limits(settings: Settings, channels: Iterable[str], basic: int, plus: int | None) -> dict[str, int]:
    """One limit for each of the channels. Another's stream has limits of its own, unless a plan is named."""
    if settings.tidewire_stream_url is not None and "tidewire_plan" not in settings.model_fields_set:
        return {}
    most = basic if settings.tidewire_plan == "basic" else plus
    return {} if most is None else dict.fromkeys(channels, most)


def _stocks(settings: Settings) -> Plan:
    feed = settings.tidewire_feed
    test = feed == "test"
    return Plan(
        name=f"stocks:{feed}",
        label=feed,
        url=settings.stream_url,
        symbols=settings.symbols,
        channels=TEST_CHANNELS if test else CHANNELS,
        automatic=AUTOMATIC,
        open_as=None if test else "stocks",
        encoder=partial(encoder_of, "stocks"),
        advice=Advice(),
        limits={} if test else _limits(settings, CHANNELS, BASIC_SYMBOLS, None),
    )


def _options(settings: Settings) -> Plan:
    name = f"options:{settings.tidewire_option_feed}"
    return Plan(
        name=name,
        label=name,
        url=settings.option_stream_url,
        symbols=settings.tidewire_option_symbols,
        channels=OPTION_CHANNELS,
        automatic=(),
        open_as="options",
        encoder=partial(encoder_of, "options"),
        advice=Advice(
            "TIDEWIRE_OPTION_FEED and TIDEWIRE_OPTION_SYMBOLS",
            "set TIDEWIRE_OPTION_FEED=indicative (free), or leave TIDEWIRE_OPTION_SYMBOLS empty",
        ),
        limits=_limits(settings, ("quotes",), BASIC_OPTION_QUOTES, PLUS_OPTION_QUOTES),
    )


def _crypto(settings: Settings) -> Plan:
    name = f"crypto:{settings.tidewire_crypto_location}"
    return Plan(
        name=name,
        label=name,
        url=settings.crypto_stream_url,
        symbols=settings.tidewire_crypto_symbols,
        channels=CRYPTO_CHANNELS,
        automatic=(),
        open_as="crypto",
        encoder=partial(encoder_of, "crypto"),
        advice=Advice(
            "TIDEWIRE_CRYPTO_LOCATION and TIDEWIRE_CRYPTO_SYMBOLS", "leave TIDEWIRE_CRYPTO_SYMBOLS empty"
        ),
    )


def _news(settings: Settings) -> Plan:
    return Plan(
        name="news",
        label="news",
        url=settings.news_stream_url,
        symbols=settings.tidewire_news_symbols,
        channels=("news",),
        automatic=(),
        open_as=None,
        encoder=partial(encoder_of, "news"),
        advice=Advice("TIDEWIRE_NEWS_SYMBOLS", "set TIDEWIRE_NEWS_SYMBOLS=-"),
    )
