"""How much a user, a client or an address may ask for. Pure: the time is passed in, in seconds."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

CONNECTIONS_PER_USER = 5
INBOUND_BYTES = 4096
INBOUND_PER_MINUTE = 100
SIGN_INS_PER_USER = 10
SIGN_INS_PER_ADDRESS = 30
SIGN_IN_WINDOW = 15 * 60.0
_MOST_KEYS = 10_000


class Places:
    """Places of each user's connections. Taking one is a plain call, so no two upgrades take the same."""

    def __init__(self, limit: int = CONNECTIONS_PER_USER) -> None:
        self._limit = limit
        self._taken: dict[str, int] = {}

    def take(self, user: str) -> bool:
        """Reserve a place; False: the user has as many connections as allowed."""
        taken = self._taken.get(user, 0)
        if taken >= self._limit:
            return False
        self._taken[user] = taken + 1
        return True

    def give_back(self, user: str) -> None:
        """The connection is gone."""
        left = self._taken[user] - 1
        if left:
            self._taken[user] = left
        else:
            del self._taken[user]

    @property
    def taken(self) -> int:
        """Connections of all users."""
        return sum(self._taken.values())


class Rate:
    """At most `limit` events in any `window` seconds."""

    def __init__(self, limit: int = INBOUND_PER_MINUTE, window: float = 60.0) -> None:
        self._limit, self._window = limit, window
        self._times: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Count an event; False (and not counted): there were too many."""
        while self._times and now - self._times[0] >= self._window:
            self._times.popleft()
        if len(self._times) >= self._limit:
            return False
        self._times.append(now)
        return True

    def wait(self, now: float) -> float:
        """Seconds until the next event is allowed."""
        if len(self._times) < self._limit:
            return 0.0
        return max(0.0, self._times[0] + self._window - now)

    @property
    def newest(self) -> float:
        """When the newest event was; minus infinity without one."""
        return self._times[-1] if self._times else float("-inf")

    def take_back(self) -> None:
        """The newest event does not count after all."""
        if self._times:
            self._times.pop()


@dataclass(slots=True)
class _Keyed:
    limit: int
    rates: OrderedDict[str, Rate]

    def rate(self, key: str) -> Rate:
        rate = self.rates.pop(key, None) or Rate(self.limit, SIGN_IN_WINDOW)
        self.rates[key] = rate
        if len(self.rates) > _MOST_KEYS:
            self.rates.popitem(last=False)
        return rate


class Attempts:
    """Sign-ins tried, by user and by address. A success does not count; an unknown user counts as any."""

    def __init__(self, per_user: int = SIGN_INS_PER_USER, per_address: int = SIGN_INS_PER_ADDRESS) -> None:
        self._users = _Keyed(per_user, OrderedDict())
        self._addresses = _Keyed(per_address, OrderedDict())

    def begin(self, user: str, address: str, now: float) -> float:
        """Count an attempt before it is made; returns 0, or the seconds to wait (then it is not counted)."""
        rates = (self._users.rate(user), self._addresses.rate(address))
        wait = max(rate.wait(now) for rate in rates)
        if all(rate.wait(now) <= 0 for rate in rates):
            for rate in rates:
                rate.allow(now)
            return 0.0
        return max(wait, 1.0)

    def succeeded(self, user: str, address: str) -> None:
        """The attempt was right."""
        self._users.rate(user).take_back()
        self._addresses.rate(address).take_back()
