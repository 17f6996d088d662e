"""The topic catalogue: every topic once, with its key, schema, partitions, cleanup and retention.

Everything else refers to a topic by its short constant here; `Catalogue(prefix, partitions)` gives real
names and partition counts. docs/topics is made from it by `tidewire topics docs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tidewire.dead_letters import SUFFIX

DAY_MS = 86_400_000
FOREVER = -1
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS

MEBIBYTE = 1 << 20
LARGEST_RECORD = 16 * MEBIBYTE
"""Dead letters may be whole frames of the socket, and news carries whole articles."""

STOCK_TRADES = "alpaca.stocks.trades"
STOCK_QUOTES = "alpaca.stocks.quotes"
STOCK_BARS = "alpaca.stocks.bars"
STOCK_STATUSES = "alpaca.stocks.statuses"
STOCK_LULDS = "alpaca.stocks.lulds"
STOCK_CORRECTIONS = "alpaca.stocks.corrections"
STOCK_IMBALANCES = "alpaca.stocks.imbalances"
STOCK_FRAMES = "alpaca.stocks.frames"
OPTION_TRADES = "alpaca.options.trades"
OPTION_QUOTES = "alpaca.options.quotes"
CRYPTO_TRADES = "alpaca.crypto.trades"
CRYPTO_QUOTES = "alpaca.crypto.quotes"
CRYPTO_BARS = "alpaca.crypto.bars"
CRYPTO_ORDERBOOKS = "alpaca.crypto.orderbooks"
NEWS = "alpaca.news"
TRADE_UPDATES = "alpaca.trade-updates"
ACCOUNT_SNAPSHOTS = "alpaca.account-snapshots"
ACTIVITIES = "alpaca.activities"
CORPORATE_ACTIONS = "alpaca.corporate-actions"
GAPS = "alpaca.gaps"
AUDITS = "alpaca.audits"
STOCK_FEATURES = "features.stocks"
NEWS_SENTIMENT = "news.sentiment"
WATCHLIST_SCORES = "watchlist.scores"
PORTFOLIO_ORDERS = "portfolio.orders"
PORTFOLIO_POSITIONS = "portfolio.positions"
PORTFOLIO_ACCOUNTS = "portfolio.accounts"
PORTFOLIO_MARKS = "portfolio.marks"
EXIT_RULES = "exits.rules"
EXIT_WATCH = "exits.watch"
EXIT_TRIGGERS = "exits.triggers"
EXIT_EVENTS = "exits.events"
ORDER_INTENTS = "orders.intents"
ORDER_RESULTS = "orders.results"
SIGNALS = "signals"
SUBSCRIPTIONS = "control.subscriptions"
CONNECTIONS = "control.connections"
LEASES = "control.leases"
REQUESTS = "control.requests"
OPTION_FRAMES = "alpaca.options.frames"
CRYPTO_FRAMES = "alpaca.crypto.frames"
NEWS_FRAMES = "alpaca.news.frames"
TRADE_UPDATE_FRAMES = "alpaca.trade-updates.frames"
SIMULATOR_TICKS = "simulator.ticks"


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the catalogue.

    `schema` is the stem of an .avsc file; None: bytes that were no records, so that only the topic of dead
    letters exists. `by_symbol`: the symbol alone decides the partition, and all such topics have the same
    number of partitions. `single`: one partition. `hot`: read in columns, so the schema holds only what
    Polars can read.
    """

    name: str
    key: str
    schema: str | None
    what: str
    by_symbol: bool = True
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    single: bool = False
    hot: bool = False
    max_bytes: int = MEBIBYTE

    @property
    def dead_letters(self) -> str:
        """The topic of this topic's dead letters."""
        return self.name + SUFFIX

    @property
    def cleanup_policy(self) -> str:
        """Kafka's cleanup.policy."""
        return "compact" if self.compacted else "delete"


def _hot(name: str, schema: str, what: str, key: str = "symbol") -> Topic:
    return Topic(name, key, schema, what, hot=True)


def _compacted(name: str, key: str, schema: str, what: str, by_symbol: bool = False) -> Topic:
    return Topic(name, key, schema, what, by_symbol, compacted=True, retention_ms=FOREVER)


def _kept(name: str, key: str, schema: str, what: str, by_symbol: bool = False) -> Topic:
    return Topic(name, key, schema, what, by_symbol, retention_ms=FOREVER, max_bytes=LARGEST_RECORD)


TOPICS = (
    _hot(STOCK_TRADES, "stock_trade", "stock trades as Alpaca sends them"),
    _hot(STOCK_QUOTES, "stock_quote", "stock quotes as Alpaca sends them"),
    _hot(STOCK_BARS, "stock_bar", "stock bars with their interval and revision"),
    Topic(STOCK_STATUSES, "symbol", "stock_status", "trading halts and resumptions"),
    Topic(STOCK_LULDS, "symbol", "stock_luld", "limit-up limit-down bands"),
    Topic(STOCK_CORRECTIONS, "symbol", "stock_correction", "trades corrected, canceled or in error"),
    Topic(STOCK_IMBALANCES, "symbol", "stock_imbalance", "order imbalances"),
    Topic(STOCK_FRAMES, "none", None, "frames and messages of the stock stream that were no records", False),
    _hot(OPTION_TRADES, "option_trade", "option trades as Alpaca sends them", "OCC symbol"),
    _hot(OPTION_QUOTES, "option_quote", "option quotes as Alpaca sends them", "OCC symbol"),
    Topic(
        OPTION_FRAMES, "none", None, "frames and messages of the option stream that were no records", False
    ),
    _hot(CRYPTO_TRADES, "crypto_trade", "crypto trades as Alpaca sends them", "pair"),
    _hot(CRYPTO_QUOTES, "crypto_quote", "crypto quotes as Alpaca sends them", "pair"),
    _hot(CRYPTO_BARS, "crypto_bar", "crypto bars with their interval and revision", "pair"),
    _hot(CRYPTO_ORDERBOOKS, "crypto_orderbook", "crypto order books and their changes", "pair"),
    Topic(
        CRYPTO_FRAMES, "none", None, "frames and messages of the crypto stream that were no records", False
    ),
    Topic(
        NEWS,
        "article id",
        "news",
        "Alpaca, RSS and webhook news, one record per article revision",
        by_symbol=False,
        retention_ms=90 * DAY_MS,
        max_bytes=LARGEST_RECORD,
    ),
    Topic(NEWS_FRAMES, "none", None, "frames and messages of the news stream that were no records", False),
    _kept(TRADE_UPDATES, "account", "trade_update", "every order event, streamed or reconciled"),
    Topic(TRADE_UPDATE_FRAMES, "account", None, "messages of the trading stream that were no records", False),
    _kept(ACCOUNT_SNAPSHOTS, "account", "account_snapshot", "account, positions and open orders over REST"),
    _kept(ACTIVITIES, "account", "account_activity", "fees, dividends, splits, expiries: all but fills"),
    _kept(CORPORATE_ACTIONS, "symbol", "corporate_action", "announced splits, dividends and the like", True),
    _kept(GAPS, "gap", "gap", "interruptions of a feed: what was found again and what cannot be recovered"),
    Topic(
        AUDITS,
        "feed:channel",
        "audit",
        "minutes compared with Alpaca's own history",
        by_symbol=False,
        retention_ms=90 * DAY_MS,
        max_bytes=LARGEST_RECORD,
    ),
    _hot(STOCK_FEATURES, "stock_features", "feature vectors, conflated"),
    Topic(NEWS_SENTIMENT, "symbol", "news_sentiment", "one record per article, symbol and analyzer"),
    _compacted(WATCHLIST_SCORES, "symbol", "watchlist_score", "decayed news score of a symbol", True),
    _compacted(PORTFOLIO_ORDERS, "account:order", "portfolio_order", "orders as their events leave them"),
    _compacted(
        PORTFOLIO_POSITIONS, "account:symbol", "portfolio_position", "positions as their fills leave them"
    ),
    _compacted(
        PORTFOLIO_ACCOUNTS, "account", "portfolio_account", "accounts as events and snapshots leave them"
    ),
    Topic(
        PORTFOLIO_MARKS,
        "symbol",
        "mark",
        "prices of held symbols, conflated; in every partition whose accounts hold the symbol",
        by_symbol=False,
        hot=False,
    ),
    _compacted(
        EXIT_RULES,
        "account:symbol:rule",
        "exit_rule",
        "exit rules that users or the default policy set; partition of the account",
    ),
    _compacted(
        EXIT_WATCH,
        "symbol:account:position:rule",
        "exit_watch",
        "rules and the positions that they guard; partition of the reference symbol",
        True,
    ),
    _kept(
        EXIT_TRIGGERS,
        "account:symbol",
        "exit_trigger",
        "rules that fired, with their inputs; partition of the reference symbol",
        True,
    ),
    Topic(
        EXIT_EVENTS,
        "account:symbol",
        "exit_event",
        "what gates held and released, and other turns of a rule; partition of the reference symbol",
        retention_ms=90 * DAY_MS,
    ),
    _kept(ORDER_INTENTS, "account", "order_intent", "orders wanted by exits and by users' strategies"),
    _kept(ORDER_RESULTS, "account", "order_result", "what became of each intent"),
    Topic(SIGNALS, "symbol", "signal", "flash crashes, news spikes"),
    Topic(
        SUBSCRIPTIONS,
        "feed:channel:symbol:holder",
        "subscription",
        "who wants what of a feed",
        by_symbol=False,
        compacted=True,
        retention_ms=FOREVER,
        single=True,
    ),
    Topic(
        CONNECTIONS,
        "feed",
        "connection",
        "the state of each connection to Alpaca",
        by_symbol=False,
        compacted=True,
        retention_ms=FOREVER,
        single=True,
    ),
    _compacted(LEASES, "feed", "lease", "who owns which feed; the partitions are the leases"),
    Topic(REQUESTS, "target", "request", "what somebody asks of a service", by_symbol=False, single=True),
    Topic(SIMULATOR_TICKS, "none", None, "lines of tick files that were no ticks", False),
)


@dataclass(frozen=True, slots=True)
class RealTopic:
    """A topic as it is to be in a cluster, dead letters included."""

    name: str
    partitions: int
    cleanup_policy: str
    retention_ms: int
    max_bytes: int
    by_symbol: bool


@cache
def schema(stem: str) -> dict[str, Any]:
    """The parsed .avsc of one schema (shared: do not change it)."""
    loaded: dict[str, Any] = json.loads(files("schemas").joinpath(f"{stem}.avsc").read_text("utf-8"))
    return loaded


def stems() -> tuple[str, ...]:
    """Every schema that a topic of the catalogue uses, once, in the catalogue's order."""
    return tuple(dict.fromkeys(topic.schema for topic in TOPICS if topic.schema is not None))


class Catalogue:
    """The catalogue of one installation: real topic names and partition counts."""

    def __init__(self, prefix: str, partitions: int) -> None:
        self.prefix = prefix
        self.partitions = partitions
        self.topics = TOPICS
        self._by_name = {prefix + topic.name: topic for topic in TOPICS}

    def name(self, topic: str) -> str:
        """The real name of a topic constant."""
        return self.prefix + topic

    def find(self, real_name: str) -> Topic | None:
        """The topic with this real name, or whose dead letters have it."""
        return self._by_name.get(real_name.removesuffix(SUFFIX))

    def real(self) -> Iterator[RealTopic]:
        """Every topic that is to exist: those with records, and the dead letters of all."""
        for topic in self.topics:
            partitions = 1 if topic.single else self.partitions
            if topic.schema is not None:
                yield RealTopic(
                    self.name(topic.name),
                    partitions,
                    topic.cleanup_policy,
                    FOREVER if topic.compacted else topic.retention_ms,
                    topic.max_bytes,
                    topic.by_symbol,
                )
            kept = FOREVER if topic.retention_ms == FOREVER else DEAD_LETTER_RETENTION_MS
            yield RealTopic(
                self.name(topic.dead_letters), partitions, "delete", kept, LARGEST_RECORD, topic.by_symbol
            )
