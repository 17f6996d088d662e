"""Who is subscribed to what, over all sockets: decides which messages of the tape are published."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from simulator.wire import OTHER

Subscriptions = Mapping[str, frozenset[str]]
"""Channel -> symbols; * stands for all."""


def covers(subscriptions: Subscriptions, channel: str, symbol: str) -> bool:
    """Whether a subscriber gets messages of this channel and symbol; an article has several symbols."""
    if channel == OTHER:
        return any(subscriptions.values())
    symbols = subscriptions.get(channel, frozenset())
    if "*" in symbols or symbol in symbols:
        return True
    return "," in symbol and not symbols.isdisjoint(symbol.split(","))


class Interest:
    """The subscriptions of live sockets; those of the last one stay in force until another subscribes.

    That is what makes a message sent while nobody is connected a missed one, and not one that never was.
    """

    def __init__(self, retained: Subscriptions | None = None) -> None:
        self._live: dict[Hashable, Subscriptions] = {}
        self._retained: Subscriptions = retained or {}

    def update(self, who: Hashable, subscriptions: Subscriptions) -> None:
        """A live socket's subscriptions changed."""
        self._live[who] = subscriptions
        if any(subscriptions.values()):
            self._retained = {}

    def leave(self, who: Hashable) -> None:
        """A socket is gone."""
        gone = self._live.pop(who, {})
        if any(gone.values()) and not self.live:
            self._retained = gone

    @property
    def live(self) -> bool:
        """Somebody connected is subscribed to something."""
        return any(any(s.values()) for s in self._live.values())

    @property
    def retained(self) -> bool:
        """The subscriptions of a client that is gone are in force."""
        return any(self._retained.values())

    @property
    def any(self) -> bool:
        """Something is published: a live subscription or a retained one."""
        return self.live or self.retained

    def wanted(self, channel: str, symbol: str) -> bool:
        """Whether a message of this channel and symbol is published."""
        return covers(self._retained, channel, symbol) or any(
            covers(s, channel, symbol) for s in self._live.values()
        )

    def all(self) -> dict[str, list[str]]:
        """The union of everything in force, for humans and for a restart."""
        union: dict[str, set[str]] = {}
        for subscriptions in (self._retained, *self._live.values()):
            for channel, symbols in subscriptions.items():
                union.setdefault(channel, set()).update(symbols)
        return {channel: sorted(symbols) for channel, symbols in union.items() if symbols}

    def symbols(self) -> set[str]:
        """Every symbol that is wanted by name, on whatever channel."""
        every = [*self._retained.values(), *(s for live in self._live.values() for s in live.values())]
        return set().union(*every) - {"*"}
