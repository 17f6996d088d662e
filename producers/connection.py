"""What a connection to Alpaca is in, what each error means for it, and how long to wait. Pure.

::

    DISCONNECTED -> CONNECTING -> AUTHENTICATING -> CONNECTED -> DISCONNECTED -> (wait) -> CONNECTING ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from tidewire.errors import RefusedError

MIN_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0
HELD_SECONDS = 6.0
"""Between attempts while Alpaca holds our dead socket (406, about 90 s): 10 a minute, and none later than a
moment after the end of it.
"""
LONGEST_RETRY_AFTER_SECONDS = 300.0
"""A server that asks for a longer pause is asked again anyway."""
FULL_SECONDS = 60.0
"""A socket that ends so soon after it had to wait for Kafka ended because it was not read."""


class State(StrEnum):
    """Where the connection stands; the values are those of the metric and of /health."""

    CONNECTING = "CONNECTING"
    AUTHENTICATING = "AUTHENTICATING"
    CONNECTED = "CONNECTED"
    DISCONNECTED = "DISCONNECTED"


class Meaning(Enum):
    """What an error asks of us."""

    STOP = "trying again cannot help"
    RETRY = "close, wait, connect again"
    SUBSCRIPTION = "the last subscription was refused; the connection is fine"
    REPORT = "note it and go on"


_MEANINGS = {
    400: Meaning.SUBSCRIPTION,
    401: Meaning.RETRY,
    402: Meaning.STOP,
    403: Meaning.REPORT,
    404: Meaning.RETRY,
    405: Meaning.SUBSCRIPTION,
    406: Meaning.RETRY,
    407: Meaning.REPORT,
    409: Meaning.STOP,
    410: Meaning.STOP,
    411: Meaning.STOP,
    412: Meaning.STOP,
    413: Meaning.SUBSCRIPTION,
    500: Meaning.RETRY,
}

_KEYS = "Check APCA_API_KEY_ID and APCA_API_SECRET_KEY: "
_ADVICE = {
    402: _KEYS + "a paper key and a live key each go with their own secret; "
    "make new ones at https://app.alpaca.markets (paper trading, API keys).",
    409: "Your Alpaca plan does not include this feed: {without}, or upgrade the plan.",
    410: "This feed does not offer what was subscribed: check {names}.",
    411: _KEYS + "this key may not read market data; make one that may.",
    412: "This feed speaks another encoding: check TIDEWIRE_STREAM_URL.",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """What a user can do about a refused feed: the settings that name it, and how to do without it."""

    names: str = "TIDEWIRE_FEED and TIDEWIRE_SYMBOLS"
    without: str = "set TIDEWIRE_FEED=iex (free)"


class AlpacaError(Exception):
    """An error frame, or an HTTP status in place of the socket (`http`).

    `retry_after`: seconds that the server asks us to wait.
    """

    def __init__(self, code: int, text: str, *, http: bool = False, retry_after: float | None = None) -> None:
        self.code, self.text, self.http, self.retry_after = code, text, http, retry_after
        super().__init__(f"{'HTTP ' if http else ''}{code} {text}")

    @property
    def meaning(self) -> Meaning:
        """What it asks of us; an unknown code is worth another try."""
        if self.http:
            retriable = self.code in (408, 425, 429) or not 400 <= self.code < 500
            return Meaning.RETRY if retriable else Meaning.STOP
        return _MEANINGS.get(self.code, Meaning.RETRY)

    @property
    def kind(self) -> str:
        """The label of the metric."""
        return f"http_{self.code}" if self.http else str(self.code)

    def refusal(self, url: str, settings: Advice = Advice()) -> RefusedError:
        """The same for the user, with what to do."""
        if self.http:
            check = "Check TIDEWIRE_STREAM_URL and {names}."
            advice = _ADVICE[402] if self.code in (401, 403) else check
        else:
            advice = _ADVICE.get(self.code, "See https://docs.alpaca.markets for this code.")
        advice = advice.format(names=settings.names, without=settings.without)
        return RefusedError(f"Alpaca refused the connection to {url}: {self}. {advice}")


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """Seconds before the next attempt after `attempt` failed ones (from 1): 1-30 s, doubled, the upper half
    random.

    `random` gives a number in [0, 1).
    """
    doubled = MIN_BACKOFF_SECONDS * 2.0 ** min(attempt, 16)
    ceiling = min(MAX_BACKOFF_SECONDS, doubled)
    return ceiling / 2 * (1 + random())


class Connection:
    """The state and the count of failed attempts of one feed's connection, and why it ended."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.state = State.DISCONNECTED
        self.attempts = 0
        """Attempts since the start."""
        self.reconnects = 0
        """Attempts after the first."""
        self._random = random
        self._failed = 0
        self._told: set[str] = set()
        self._waited_ns: int | None = None

    def connecting(self) -> None:
        """An attempt begins."""
        self._told.clear()
        self._waited_ns = None
        self.state = State.CONNECTING
        self.attempts += 1
        self.reconnects = self.attempts - 1

    def greeted(self) -> None:
        """The socket is open and Alpaca has said `connected`."""
        self.state = State.AUTHENTICATING

    def authenticated(self) -> None:
        """Alpaca has taken the keys."""
        self.state = State.CONNECTED

    def data(self) -> None:
        """Market data came. Only this ends the series of failures: a socket that opens and falls is one
        too.
        """
        self._failed = 0

    def told(self, kind: str) -> None:
        """Alpaca said this, and the connection goes on for now."""
        self._told.add(kind)

    def waited(self, now_ns: int) -> None:
        """The socket was not read for a while, because Kafka was behind; it is read again from now on."""
        self._waited_ns = now_ns

    def cause(self, kind: str, now_ns: int) -> str:
        """Why a connection ended that ended by `kind`: `overflow`, `slow_client`, or `kind` itself."""
        if kind.startswith("closed_") or kind == "407":
            if self._waited_ns is not None and now_ns - self._waited_ns < FULL_SECONDS * 10**9:
                return "overflow"
            if kind == "407" or "407" in self._told:
                return "slow_client"
        return kind

    def lost(self, error: AlpacaError | None = None) -> float:
        """The connection ended, by `error` if Alpaca gave one; returns the seconds to wait."""
        self.state = State.DISCONNECTED
        if error is not None and error.code == 406 and not error.http:
            return HELD_SECONDS * (1 + self._random() / 10)
        self._failed += 1
        asked = 0.0 if error is None or error.retry_after is None else error.retry_after
        return max(backoff(self._failed, self._random), min(asked, LONGEST_RETRY_AFTER_SECONDS))
