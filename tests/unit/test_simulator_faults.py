"""A fault that does something else than it says makes every test that uses it worthless."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import faults
from simulator.door import Door, RestFaults
from simulator.skips import Skips
from simulator.spoils import Form, join, split, spoil_of

FORMS = st.sampled_from(["msgpack", "json"])


def spoilt(given: list[list[int]], form: Form, **body: object) -> list[list[Any]]:
    """Frames of messages {"n": ...} through one fault, with what it held back at the end."""
    fault = faults.parse(body)
    spoil = spoil_of(fault)
    assert spoil is not None
    out: list[bytes] = []
    for number, frame in enumerate(given):
        [data] = join([{"n": n} for n in frame], form)
        out += spoil(data, form) if number < fault.count else [data]
    out += spoil.held()
    return [split(frame, form) for frame in out]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=9), max_size=12),
    FORMS,
    st.integers(2, 12),
    st.integers(1, 12),
)
def test_reordering_loses_and_invents_nothing(
    frames: list[list[int]], form: Form, window: int, count: int
) -> None:
    """A harness would blame the producer for what the fault itself had lost."""
    out = spoilt(frames, form, kind="reorder", frames=count, window=window)
    numbers = [message["n"] for frame in out for message in frame]
    assert Counter(numbers) == Counter(n for frame in frames for n in frame)
    assert out == spoilt(frames, form, kind="reorder", frames=count, window=window)  # seeded


def test_reordered_messages_stay_within_their_window() -> None:
    """Messages that move without a bound would be another fault: late ones."""
    frames = [[10 * i + j for j in range(10)] for i in range(10)]
    numbers = [m["n"] for f in spoilt(frames, "msgpack", kind="reorder", frames=10, window=7) for m in f]
    assert numbers != sorted(numbers)
    assert all(abs(n - at) < 7 for at, n in enumerate(numbers))


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_a_huge_frame_is_legal_and_keeps_what_it_had(form: Form) -> None:
    """A client must not be tested with frames that no server would send."""
    [beside] = spoilt([[1, 2]], form, kind="huge")
    assert [m["n"] for m in beside if "n" in m] == [1, 2]
    assert len(join(beside, form)[0]) > 1 << 20
    [[first, second]] = spoilt([[1, 2]], form, kind="huge", inside=True)
    assert (first["n"], second) == (1, {"n": 2})
    assert len(first["padding"]) == 1_200_000


def test_messages_of_the_trading_socket_are_frames_of_their_own() -> None:
    """Two updates in one frame are what Alpaca never sends."""
    spoil = spoil_of(faults.parse({"kind": "reorder", "frames": 3, "window": 3}))
    assert spoil is not None
    sent = [part for n in range(3) for part in spoil(orjson.dumps({"n": n}), "single")]
    assert sorted(orjson.loads(part)["n"] for part in sent) == [0, 1, 2]
    more = spoil_of(faults.parse({"kind": "malformed", "message": {"a": 1}}))
    assert more is not None
    assert sorted(more(b'{"n":0}', "single")) == [b'{"a":1}', b'{"n":0}']


MESSAGES = st.lists(
    st.tuples(st.sampled_from(["trades", "quotes"]), st.sampled_from(["A", "B", "A,B"])), max_size=40
)


@settings(max_examples=60)
@given(
    MESSAGES,
    st.integers(1, 5),
    st.integers(1, 3),
    st.none() | st.just(["trades"]),
    st.none() | st.just(["B"]),
)
def test_skipped_is_exactly_what_was_asked_for(
    messages: list[tuple[str, str]], count: int, every: int, channels: Any, symbols: Any
) -> None:
    """The audits are measured by what is skipped: one more or less would make 100% another number."""
    skips = Skips("stocks", ("trades", "quotes"))
    body = {"kind": "skip", "count": count, "every": every, "channels": channels, "symbols": symbols}
    skips.add(faults.parse(body))
    taken = [
        at
        for at, (channel, symbol) in enumerate(messages)
        if skips.pending and skips.take([channel], symbol.split(","), at, lambda at=at: at)  # type: ignore[misc]
    ]
    matching = [
        at
        for at, (channel, symbol) in enumerate(messages)
        if (channels is None or channel in channels) and (symbols is None or "B" in symbol)
    ]
    assert taken == matching[every - 1 :: every][:count]
    assert [entry["message"] for entry in skips.skipped] == taken
    assert [entry["ts"] for entry in skips.skipped] == taken
    assert skips.remaining == count - len(taken)
    assert skips.pending == bool(skips.remaining)
    skips.add(faults.parse({"kind": "skip", "count": 0}))
    assert (skips.remaining, skips.pending) == (0, False)


def test_a_skip_that_could_never_come_true_is_refused() -> None:
    """A harness with a misspelt channel would wait for ever, or report success over nothing."""
    skips = Skips("stocks", ("trades",))
    with pytest.raises(ValueError, match="no such channels of stocks: trade"):
        skips.add(faults.parse({"kind": "skip", "channels": ["trade"]}))
    skips.add(faults.parse({"kind": "skip", "count": faults.MOST}))
    with pytest.raises(ValueError, match="no more than"):
        skips.add(faults.parse({"kind": "skip"}))


def test_only_the_named_accounts_updates_are_skipped() -> None:
    """The other account's tests would lose what they wait for."""
    skips = Skips("trading", ("trade_updates", "fill"))
    skips.add(faults.parse({"kind": "skip", "accounts": [2], "channels": ["trade_updates"]}))
    assert not skips.take(("fill", "trade_updates"), ("A",), 1, dict, 1)
    assert skips.take(("fill", "trade_updates"), ("A",), 1, dict, 2)
    [entry] = skips.skipped
    assert (entry["channel"], entry["account"], entry["time"]) == (
        "fill",
        2,
        "1970-01-01T00:00:00.000000001Z",
    )


def test_the_door_opens_again() -> None:
    """A producer that never gets in again would look like one that gave up."""
    now = [100.0]
    door = Door(lambda: now[0])
    assert door.sign_in() is None
    assert door.inflict(faults.parse({"kind": "hold", "seconds": 5}))
    assert door.inflict(faults.parse({"kind": "refuse_auth", "code": 402}))
    assert [door.sign_in(), door.sign_in()] == [402, 406]
    now[0] += 5
    assert door.sign_in() is None
    door.inflict(faults.parse({"kind": "refuse_symbols", "symbols": ["BAD"], "code": 400}))
    assert [door.subscribe(["GOOD"]), door.subscribe(["GOOD", "BAD"])] == [None, 400]
    door.inflict(faults.parse({"kind": "refuse_symbols", "symbols": []}))
    assert door.subscribe(["BAD"]) is None
    assert not door.inflict(faults.parse({"kind": "drop"}))


def test_rest_answers_with_the_status_asked_for_and_then_normally() -> None:
    """A backfill's patience would be tested with another number of refusals than was asked for."""
    rest = RestFaults()
    rest.add(
        ("/v2/stocks",), faults.parse({"kind": "status_http", "code": 429, "count": 2, "retry_after": 3})
    )
    assert rest.answer("/v1beta1/news") is None
    answers = [rest.answer("/v2/stocks/trades") for _ in range(3)]
    assert [a.status if a else None for a in answers] == [429, 429, None]
    assert answers[0] is not None
    assert answers[0].headers["Retry-After"] == "3"


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "refuse_symbols", "code": 402},
        {"kind": "status_http", "code": 200},
        {"kind": "skip", "channels": "trades"},
        {"kind": "skip", "accounts": ["1"]},
        {"kind": "status_http", "path": "v2"},
        {"kind": "outage", "seconds": -1},
        {"kind": "reorder", "window": 1},
        {"kind": "drop", "count": 0},
        {"kind": "mute", "seconds": True},
    ],
)
def test_what_makes_no_sense_is_refused(body: object) -> None:
    """A mistaken fault that is accepted is a test that tests nothing."""
    with pytest.raises(ValueError, match=r"."):
        faults.parse(body)


def test_packed_times_survive_a_spoilt_frame() -> None:
    """Nanoseconds rounded by the fault would be dead letters or other events."""
    message = {"T": "t", "t": msgpack.Timestamp(1_700_000_000, 123_456_789)}
    [frame] = join([message], "msgpack")
    assert split(frame, "msgpack") == [message]


def test_answers_are_spoilt_of_those_requests_that_were_meant() -> None:
    """An order whose answer arrives although it was to be lost proves nothing about lost answers."""
    rest = RestFaults()
    rest.add((), faults.parse({"kind": "answer_lost", "count": 2, "every": 3, "accounts": [1]}))
    assert rest.after("/v2/orders", "GET", 1) is None
    assert rest.after("/v2/account", "POST", 1) is None
    assert rest.after("/v2/orders", "POST", 2) is None
    found = [rest.after("/v2/orders", "POST", 1) for _ in range(8)]
    assert [fault is not None for fault in found] == [False, False, True, False, False, True, False, False]
    rest.add((), faults.parse({"kind": "answer_http", "code": 504, "path": "/v2/account", "method": "PATCH"}))
    assert rest.answer("/v2/account/configurations", "PATCH") is None
    assert rest.after("/v2/account/configurations", "PATCH", 1) is not None
    wrong: list[dict[str, Any]] = [
        {"kind": "answer_http", "code": 200},
        {"kind": "answer_late", "method": "PUT"},
    ]
    for body in wrong:
        with pytest.raises(ValueError, match=r"code|method"):
            faults.parse(body)
