"""What the log holds of each day's bars, and which days are still to be compared. Pure, bounded.

Alpaca sends the bar of the running day again and again; the newest revision is what holds. Nothing can be
said of it before the day's session is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from producers.audit.cases import Case
from producers.audit.comparison import Revised, newest
from producers.audit.minutes import Piece
from tidewire.clock import NS_PER_SECOND

CHANNEL = "dailyBars"
KEPT_DAYS = 5
"""Days that wait for their comparison, at most."""
_HOUR = 3600 * NS_PER_SECOND
OVER_AFTER: Mapping[str, int] = {"stocks": 20 * _HOUR, "crypto": 25 * _HOUR}
"""Kind of feed -> so long (ns) after its beginning a day is over: stocks trade until 20:00 in New York, a
crypto day is 25 hours long in autumn.
"""


class Days:
    """The days of one lane. `floor`: days that begin before it (ns) are done and left alone."""

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.cases: dict[int, Case] = {}
        """Days that are being compared, by their beginning."""
        self.given_up = 0
        self._held: dict[int, dict[str, tuple[Revised, int]]] = {}

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take daily bars that were read; `minute` of a piece is the beginning of its day."""
        for piece in pieces:
            if piece.minute < self.floor:
                continue
            symbols = self._held.setdefault(piece.minute, {})
            known = symbols.get(piece.symbol)
            value = newest(None if known is None else known[0], piece.value)
            if known is None or value is not known[0]:
                symbols[piece.symbol] = value, piece.offset
        while len(self._held) > KEPT_DAYS:
            self.finish(min(self._held))
            self.given_up += 1

    def of(self, day: int) -> dict[str, Revised]:
        """The bars of a day, by symbol."""
        return {symbol: value for symbol, (value, _) in self._held.get(day, {}).items()}

    def known(self) -> set[int]:
        """The beginnings of the days that wait."""
        return set(self._held)

    def finish(self, day: int) -> None:
        """A day, and with it all before it, needs no comparison any more."""
        self.floor = max(self.floor, day + 1)
        for one in [d for d in (*self._held, *self.cases) if d < self.floor]:
            self._held.pop(one, None)
            self.cases.pop(one, None)

    def resume_offset(self, position: int) -> int:
        """Where a restart has to begin, so that it finds the newest bars of the days that wait."""
        return min((at for day in self._held.values() for _, at in day.values()), default=position)
