"""A wrong reaction to an Alpaca error means a silent feed, a banned key, or a service that gives up for
nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.alpaca_stream import retry_after
from producers.connection import AlpacaError, Connection, Meaning, State, backoff
from producers.plans import plans
from producers.subscriptions import CHANNELS, Subscriptions
from tidewire import config


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waiting_stays_between_1_and_30_seconds_however_often_it_fails(attempt: int, draw: float) -> None:
    assert 1 <= backoff(attempt, lambda: draw) <= 30


def test_no_more_than_ten_attempts_a_minute_even_with_the_luckiest_draws() -> None:
    connection, elapsed, attempts = Connection(lambda: 0.0), 0.0, 0
    while elapsed < 60:
        connection.connecting()
        attempts += 1
        elapsed += connection.lost()
    assert attempts <= 10


def test_only_data_ends_a_series_of_failures() -> None:
    """A socket that opens, takes the keys and falls again must not be tried once a second for ever."""
    connection = Connection(lambda: 0.0)
    for expected in (1, 2, 4, 8, 15, 15):
        connection.connecting()
        connection.greeted()
        connection.authenticated()
        states = [str(connection.state)]
        assert connection.lost() == expected
        states.append(str(connection.state))
        assert states == [State.CONNECTED, State.DISCONNECTED]
    connection.connecting()
    connection.data()
    assert connection.lost() == 1
    assert connection.reconnects == 6


def test_a_held_socket_is_waited_out_and_taken_soon_after_its_end() -> None:
    """406 lasts about 90 s: growing pauses would lose up to 30 s more of the market."""
    for draw in (0.0, 0.999):
        connection, elapsed, attempts = Connection(iter([draw] * 99).__next__), 0.0, 0
        while elapsed < 90:
            connection.connecting()
            attempts += 1
            pause = connection.lost(AlpacaError(406, "connection limit exceeded"))
            assert 6 <= pause <= 8
            elapsed += pause
        assert attempts <= 15  # ten a minute
        assert connection.lost() <= 2  # and it was no failure of ours


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0), ("-3", 0.0), ("soon", None), (None, None)],
)
def test_a_server_says_how_long_to_stay_away(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, 100.0) == seconds


def test_too_many_requests_wait_as_long_as_asked_and_never_for_ever() -> None:
    """Alpaca bans keys that knock on."""
    for asked, waited in ((40.0, 40.0), (0.0, 1.0), (10_000.0, 300.0), (None, 1.0)):
        error = AlpacaError(429, "", http=True, retry_after=asked)
        assert Connection(lambda: 0.0).lost(error) == waited


def test_the_cause_of_an_end_is_what_led_to_it() -> None:
    """The gap's reason tells the operator whether the network, this machine or Kafka is to blame."""
    connection = Connection(lambda: 0.0)
    connection.connecting()
    assert connection.cause("closed_1006", 0) == "closed_1006"
    connection.told("407")
    assert connection.cause("closed_1008", 0) == "slow_client"
    assert connection.cause("mute", 0) == "mute"
    connection.waited(10**9)
    assert connection.cause("closed_1008", 30 * 10**9) == "overflow"
    assert connection.cause("closed_1008", 90 * 10**9) == "slow_client"
    connection.connecting()
    assert connection.cause("closed_1008", 30 * 10**9) == "closed_1008"


@pytest.mark.parametrize(
    ("code", "meaning", "advice"),
    [
        (402, Meaning.STOP, "APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
        (409, Meaning.STOP, "TIDEWIRE_FEED=iex"),
        (410, Meaning.STOP, "TIDEWIRE_FEED"),
        (411, Meaning.STOP, "APCA_API_KEY_ID"),
        (406, Meaning.RETRY, ""),
        (404, Meaning.RETRY, ""),
        (500, Meaning.RETRY, ""),
        (405, Meaning.SUBSCRIPTION, ""),
        (400, Meaning.SUBSCRIPTION, ""),
        (407, Meaning.REPORT, ""),
        (999, Meaning.RETRY, ""),
    ],
)
def test_each_code_asks_for_one_thing(code: int, meaning: Meaning, advice: str) -> None:
    error = AlpacaError(code, "text")
    assert error.meaning is meaning
    if meaning is Meaning.STOP:
        assert advice in str(error.refusal("wss://x"))


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (404, Meaning.STOP),
        (401, Meaning.STOP),
        (429, Meaning.RETRY),
        (502, Meaning.RETRY),
        (200, Meaning.RETRY),
    ],
)
def test_an_http_status_in_place_of_a_socket(status: int, meaning: Meaning) -> None:
    assert AlpacaError(status, "", http=True).meaning is meaning


class Plan:
    """Alpaca's side: some symbols do not exist, and each channel has room for a few only."""

    def __init__(self, unknown: set[str], room: int) -> None:
        self.unknown, self.room = unknown, room
        self.held: dict[str, list[str]] = {}

    def takes(self, message: dict[str, list[str]]) -> bool:
        wish = {
            c: list(dict.fromkeys([*self.held.get(c, []), *message[c]])) for c in message if c != "action"
        }
        if any(len(s) > self.room or self.unknown & set(s) for s in wish.values()):
            return False
        self.held |= wish
        return True


@given(
    st.lists(st.sampled_from([f"S{n}" for n in range(30)]), min_size=1, max_size=30, unique=True),
    st.sets(st.sampled_from([f"S{n}" for n in range(30)]), max_size=5),
    st.integers(0, 30),
)
def test_what_fits_is_subscribed_what_does_not_is_named_and_it_ends(
    symbols: list[str], unknown: set[str], room: int
) -> None:
    plan, subscriptions = Plan(unknown, room), Subscriptions(symbols)
    for _ in range(2):  # the same again on the next connection
        plan.held = {}
        subscriptions.restart()
        asked = 0
        while (piece := subscriptions.next()) is not None:
            assert subscriptions.next() is None  # one at a time
            asked += 1
            assert asked < 1000
            if plan.takes(piece.message()):
                subscriptions.acknowledged({"T": "subscription", **plan.held})
            else:
                subscriptions.rejected()
        assert subscriptions.settled
        fitting = [s for s in symbols if s not in unknown]
        for channel in CHANNELS:
            assert list(subscriptions.confirmed.get(channel, ())) == fitting[:room]
            assert set(subscriptions.refused.get(channel, ())) == set(symbols) - set(fitting[:room])


names = st.lists(st.sampled_from([f"S{n}" for n in range(12)]), max_size=12, unique=True)


@given(names, st.lists(st.tuples(names, names), max_size=4), st.integers(0, 8))
def test_a_full_plan_holds_positions_then_the_configured_then_clients(
    configured: list[str], wishes: list[tuple[list[str], list[str]]], limit: int
) -> None:
    """A client who watches a tape must not push out the symbol that money is in."""
    plan = Plan(set(), limit)
    subscriptions = Subscriptions(configured, ("trades", "bars"), (), {"trades": limit})
    subscriptions.restart()
    for positions, clients in [([], []), *wishes]:
        wanted = {"trades": [*positions, *(s for s in clients if s not in positions)]}
        subscriptions.want(wanted, {"trades": set(positions)})
        while (piece := subscriptions.next()) is not None:
            message = piece.message()
            if message["action"] == "unsubscribe":
                plan.held["trades"] = [s for s in plan.held["trades"] if s not in message["trades"]]
            elif "bars" in message:
                plan.held["bars"] = message["bars"]
            else:
                assert plan.takes(message)  # room was made before
            subscriptions.acknowledged({"T": "subscription", **plan.held})
        ordered = list(dict.fromkeys([*positions, *configured, *clients]))
        assert set(subscriptions.confirmed.get("trades", ())) == set(ordered[:limit])
        assert list(subscriptions.unfit.get("trades", ())) == ordered[limit:]
        assert list(subscriptions.confirmed.get("bars", ())) == configured


def test_limits_are_those_of_the_plan_and_only_at_alpaca() -> None:
    """The simulator and other servers have room for more than the basic plan."""
    chosen: dict[str, Any] = {"tidewire_option_symbols": ("AAPL240315C00172500",)}
    elsewhere: dict[str, Any] = {**chosen, "tidewire_stream_url": "ws://127.0.0.1:1"}
    stocks, options, *_ = plans(config.load(_env_file=None, **chosen))
    assert (stocks.limits["trades"], options.limits) == (30, {"quotes": 200})
    stocks, options, *_ = plans(config.load(_env_file=None, tidewire_plan="plus", **chosen))
    assert (stocks.limits, options.limits) == ({}, {"quotes": 1000})
    assert not any(plan.limits for plan in plans(config.load(_env_file=None, **elsewhere)))
    named = plans(config.load(_env_file=None, tidewire_plan="basic", **elsewhere))
    assert named[0].limits["trades"] == 30


def test_a_star_stands_for_every_symbol() -> None:
    subscriptions = Subscriptions(("AAPL", "*"), ("trades",))
    subscriptions.restart()
    piece = subscriptions.next()
    assert piece is not None
    assert piece.message() == {"action": "subscribe", "trades": ["*"]}
