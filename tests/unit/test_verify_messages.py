"""If these fail, the report misreads what the simulator says it sent, and blames or excuses the pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewire.errors import TidewireError
from verify import ledger
from verify.content import BARS, QUOTES, TRADES, same_json
from verify.messages import Collector, channel_of, fingerprint, from_bytes, nanoseconds, row

NS = 1_613_998_304_208_123_456
AT = msgpack.Timestamp(NS // 10**9, NS % 10**9)
TRADE: dict[str, Any] = {
    "T": "t", "S": "AAPL", "i": 96921, "x": "D", "p": 126.55, "s": 1, "t": AT, "c": ["@", "I"], "z": "C",
}  # fmt: skip
QUOTE: dict[str, Any] = {
    "T": "q", "S": "AMD", "bx": "U", "bp": 87.66, "bs": 1, "ax": "Q", "ap": 87.68, "as": 4, "t": AT,
    "c": ["R"], "z": "C",
}  # fmt: skip
BAR: dict[str, Any] = {
    "T": "b", "S": "SPY", "o": 388.985, "h": 389.13, "l": 388.975, "c": 389.12, "v": 49378, "n": 461,
    "vw": 389.062639, "t": AT,
}  # fmt: skip


def packed(*messages: Any) -> bytes:
    return bytes(msgpack.packb(list(messages)))


def test_each_type_has_its_row() -> None:
    assert row(TRADES, TRADE) == ("AAPL", NS, 96921, "D", 126.55, 1, "@\x1fI", "C", None)
    assert row(QUOTES, QUOTE) == ("AMD", NS, "U", 87.66, 1, "Q", 87.68, 4, "R", "C", None)
    assert row(BARS, BAR) == (
        "SPY", NS, "minute", 388.985, 389.13, 388.975, 389.12, 49378, 461, 389.062639, None,
    )  # fmt: skip
    assert row(BARS, BAR | {"T": "d"})[2] == "day"


def test_unknown_fields_are_content() -> None:
    assert row(TRADES, TRADE | {"zz": [2], "aa": 1})[-1] == '{"aa":1,"zz":[2]}'
    assert same_json('{ "zz": [2], "aa": 1 }') == '{"aa":1,"zz":[2]}'


@given(st.integers(0, 4_000_000_000 * 10**9))
@settings(max_examples=100, deadline=None)
def test_times_keep_their_nanoseconds_in_both_encodings(ns: int) -> None:
    whole, rest = divmod(ns, 10**9)
    assert nanoseconds(msgpack.Timestamp(whole, rest)) == ns
    from datetime import UTC, datetime

    text = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    assert nanoseconds(text) == ns


def test_short_fractions_are_read() -> None:
    assert nanoseconds("2021-02-22T15:51:44.208Z") == 1_614_009_104_208_000_000
    assert nanoseconds("2021-02-22T15:51:44Z") == 1_614_009_104_000_000_000


@pytest.mark.parametrize(
    "broken",
    [
        {"p": "12"}, {"p": None}, {"i": 1.5}, {"i": 2**63}, {"S": 5}, {"t": 12}, {"t": "yesterday"},
        {"s": True},
    ],
)  # fmt: skip
def test_broken_messages_are_kept_aside(broken: dict[str, Any]) -> None:
    collector = Collector()
    collector.add([TRADE | broken, TRADE, "no map"])
    assert collector.frame(TRADES).height == 1
    assert len(collector.odd) == 1


def test_an_unknown_type_has_no_channel() -> None:
    assert channel_of({"T": "zz"}) is None
    assert channel_of({"T": 5}) is None
    assert channel_of({}) is None


def test_a_fingerprint_does_not_depend_on_the_encoding() -> None:
    stamped = {"T": "zz", "t": AT, "v": 1.5}
    texted = {"v": 1.5, "t": "2021-02-22T12:51:44.208123456Z", "T": "zz"}
    assert fingerprint(stamped) == fingerprint(texted)


def test_dead_letter_bytes_of_every_form_are_read() -> None:
    assert from_bytes(packed(TRADE, QUOTE)) == [TRADE, QUOTE]
    assert from_bytes(bytes(msgpack.packb(TRADE))) == [TRADE]
    assert from_bytes(json.dumps({"T": "t"}).encode()) == [{"T": "t"}]
    assert from_bytes(b'[{"T": "t"}]') == [{"T": "t"}]
    assert from_bytes(b"{broken") == []
    assert from_bytes(b"") == []


def test_a_truncated_frame_gives_what_came_before_the_cut() -> None:
    whole = packed(TRADE, QUOTE, BAR)
    assert from_bytes(whole[:-3]) == [TRADE, QUOTE]


def entry(*messages: Any) -> bytes:
    body = packed(*messages)
    return len(body).to_bytes(4, "big") + body


@given(st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_torn_last_entry_is_left_out_wherever_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    """A simulator killed with -9 leaves half an entry; the report must still be made."""
    folder = tmp_path_factory.mktemp("ledger")
    first, second = entry(TRADE, QUOTE), entry(TRADE)
    whole = first + second
    (folder / "000001.frames").write_bytes(whole[: max(0, len(whole) - cut)])
    left = max(0, len(whole) - cut)
    expected = 2 if left >= len(whole) else 1 if left >= len(first) else 0
    read = ledger.read(folder).sent
    assert read.frame(TRADES).height == expected
    assert read.frame(QUOTES).height == min(expected, 1)


def test_files_are_read_in_order_and_the_start_is_known(tmp_path: Path) -> None:
    (tmp_path / "000002.frames").write_bytes(entry(TRADE | {"i": 2}))
    (tmp_path / "000001.frames").write_bytes(entry(TRADE | {"i": 1}))
    (tmp_path / "ledger.json").write_text('{"complete_from": 77}')
    found = ledger.read(tmp_path)
    assert found.sent.frame(TRADES)["id"].to_list() == [1, 2]
    assert found.complete_from == 77


def test_an_entry_broken_in_the_middle_is_said(tmp_path: Path) -> None:
    (tmp_path / "000001.frames").write_bytes(b"\0\0\0\x02\xc1\xc1" + entry(TRADE))
    with pytest.raises(TidewireError, match=r"000001\.frames is broken"):
        ledger.read(tmp_path)


def test_a_folder_that_is_no_ledger_is_said(tmp_path: Path) -> None:
    with pytest.raises(TidewireError, match="--ledger"):
        ledger.read(tmp_path / "nothing")
