"""What the broker knows of the world: time, quotes, sessions, and which symbols can be traded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from simulator.broker.quotes import Board, contract
from simulator.broker.rejections import invalid
from simulator.broker.sessions import Sessions
from simulator.latest import Quote

DAY_NS = 86_400 * 10**9
GTC_DAYS = 90


@dataclass(slots=True)
class MarketView:
    """`now` is the market's clock in ns; `symbols` are all stocks and pairs that exist."""

    board: Board
    sessions: Sessions
    symbols: Callable[[], Iterable[str]]
    now: Callable[[], int]

    def resolve(self, name: str, now: int) -> tuple[str, str]:
        """(symbol as the market writes it, asset class) of a name: BTCUSD is BTC/USD.

        Raises:
            Rejection: there is no such asset (422).
        """
        known = self.symbols()
        if name in known or (symbol := name.upper()) in known:
            symbol = name if name in known else name.upper()
            return symbol, "crypto" if "/" in symbol else "us_equity"
        for pair in known:
            if "/" in pair and pair.replace("/", "") == symbol:
                return pair, "crypto"
        option = contract(symbol)
        if option is not None and option.underlying in known and option.expires > now:
            return symbol, "us_option"
        raise invalid(f'asset "{name}" not found')

    def quote(self, symbol: str, now: int) -> Quote | None:
        """The newest quote of a stock, a pair or an option."""
        return self.board.get(symbol, now)

    def price(self, symbol: str) -> Decimal | None:
        """What one is worth now."""
        return self.board.price(symbol, self.now())

    def trades(self, asset_class: str, now: int, *, extended: bool) -> bool:
        """Whether an order of a class may trade at this time."""
        if asset_class == "crypto":
            return True
        return self.sessions.extended(now) if extended else self.sessions.regular(now)

    def expiry(self, asset_class: str, tif: str, submitted: int) -> int | None:
        """When an order ends by itself; at-the-open and at-the-close orders: when they are due."""
        if asset_class == "crypto":
            return None
        if tif == "opg":
            return self.sessions.next_open(submitted)
        if tif == "gtc":
            return self.sessions.next_close(submitted + GTC_DAYS * DAY_NS)
        return self.sessions.next_close(submitted)
