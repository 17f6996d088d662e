"""What a simulator is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Rate = float | Literal["max", "real"]

DEMO_KEY = "demo-key"
DEMO_SECRET = "demo-secret"  # noqa: S105 - the simulator's public key pair, not a secret


def key_pair(account: int) -> tuple[str, str]:
    """Key and secret of the simulator's account number 1, 2, 3..."""
    suffix = "" if account == 1 else f"-{account}"
    return DEMO_KEY + suffix, DEMO_SECRET + suffix


GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class SimulatorOptions:
    """Options of one simulator; sizes in bytes, times in seconds, rates in messages a second."""

    ticks: tuple[Path, ...] = ()
    """Tick files, JSON-lines files or folders of them; none: a synthetic market."""
    rate: Rate = "real"
    """Messages a second, "max" (as fast as the clients read) or "real" (as far apart as their times)."""
    seed: int = 1
    port: int = 0
    """0: any free port."""
    host: str = "127.0.0.1"
    symbols: tuple[str, ...] = ()
    """Symbols of the synthetic market; none: the settings' symbols."""
    fresh: bool = False
    """Empty the ledger and start the tape anew, instead of going on where the ledger ends."""
    limit: int | None = None
    """End of the synthetic stock market, in messages; None: it never ends."""
    messages_per_second: float = 500.0
    """Mean rate of the synthetic market at rate "real"."""

    halts_per_hour: float = 2.0
    """Mean number of trading halts of the synthetic stock market, over all symbols."""
    corrections_per_hour: float = 0.0
    """Mean number of its corrections and cancels of trades; bars do not follow them."""

    crypto_symbols: tuple[str, ...] = ()
    """Pairs of the synthetic crypto market; none: the settings' pairs."""
    crypto_messages_per_second: float = 10.0
    """Mean rate of the synthetic crypto market; it always keeps the clock's time."""
    crypto_limit: int | None = None
    option_messages_per_second: float = 10.0
    """Mean rate of the synthetic option market; it always keeps the clock's time."""
    option_limit: int | None = None
    option_quote_limit: int | None = None
    """Contracts whose quotes a client may subscribe (405 beyond); Alpaca's plans have 200 and 1,000."""
    news_seconds: float = 2.0
    """Mean time between synthetic articles; they always keep the clock's time."""
    news_limit: int | None = None
    wait_for_subscriber: bool = True
    """Start a venue's tape with its first subscription; else at once."""

    accounts: int = 2
    """Trading accounts, each with a key pair of its own; every pair may read market data."""
    orders_per_minute: int | None = 200
    """Requests a minute that each account may send to the trading API; None: as many as it likes."""
    strategy: bool | None = None
    """Whether the house strategy trades account 1; None: in a synthetic market only."""
    trading_bytes: int = 4 * MIB
    """Bytes of trade updates waiting for one client before it is closed."""
    deflate: bool = True
    """Accept permessage-deflate when a client offers it, as Alpaca does."""
    auth_seconds: float = 10.0
    symbol_limit: int | None = None
    """Symbols a channel may have (405 beyond); Alpaca's free plan has 30."""
    hold_seconds: float = 0.0
    """How long a connection that died without a close frame keeps its endpoint occupied (406)."""
    frame_messages: int = 200
    outgoing_bytes: int = 64 * MIB
    """Bytes waiting for one client before it is a slow client (407); at rate "max" the tape waits instead."""
    requests_per_minute: int = 10_000
    history_delay_minutes: float = 0.0
    """How long REST keeps stock data of the feed sip back (403), as from Alpaca's free plan: 15."""
    exchange_hours: bool | None = None
    """Whether /v2/clock and /v2/calendar are the exchange's; None: with recorded ticks only, since a
    synthetic market never rests and says so."""
    ledger_bytes: int = 4 * GIB
    ledger_file_bytes: int = 64 * MIB
    history_messages: int = 8_000_000
    """Published messages that REST can still find; the oldest half goes when there are more."""

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """The key pairs that are let in."""
        return tuple(key_pair(number) for number in range(1, self.accounts + 1))
