"""Without these a tick could get lost between a file and the socket, or a broken line take others along."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import lean_rows, lines, ticks
from simulator.rejects import Rejects
from simulator.tape import Inputs
from simulator.wire import Streams
from tidewire.errors import ConfigError

TRADE_HEADER = b"ms,price,size,exchange,condition,suspicious\n"
QUOTE_HEADER = b"ms,bid,bid_size,ask,ask_size,exchange,condition,suspicious\n"

FIELD = st.sampled_from([b"0", b"1", b"-1", b"+7", b"20000020", b"P", b"", b"x", b"1.5", b" 1", b"86399999"])
LINE = st.lists(FIELD, min_size=4, max_size=8).map(b",".join) | st.sampled_from(
    [
        b"14400688,491800,300,P,2000,0",
        b"",
        b'"1",2,3,P,1,0',
        b"1,99999999999999999999,3,P,1,0",
        b"1,2,3,\xff,1,0",
    ]
)
GOOD = st.builds(
    lambda *f: b"%d,%d,%d,%s,%x,%d" % f,
    st.integers(0, 86_399_999),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.sampled_from([b"P", b"Q", b""]),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 1),
)


def read(path: Path) -> tuple[list[dict[str, Any]], Rejects]:
    rejects = Rejects()
    tape = Inputs([path], rejects).stocks()
    return [msgpack.unpackb(m[3]) for block in tape.read(Streams()) for m in block], rejects


@given(st.lists(GOOD | LINE, min_size=1, max_size=12))
def test_a_line_has_the_same_fate_in_any_company(given_lines: list[bytes]) -> None:
    refused: dict[int, str] = {}
    rows = lean_rows.read_rows(
        b"\n".join(given_lines) + b"\n", lean_rows.TRADES, lambda n, raw, why: refused.update({n: why})
    )
    alone = [lean_rows.parse_line(line, lean_rows.TRADES) for line in given_lines]
    assert refused == {n: fate for n, fate in enumerate(alone) if isinstance(fate, str)}
    good = [fate for fate in alone if not isinstance(fate, str)]
    columns = zip(
        rows.ns.tolist(), *[c.tolist() for c in rows.integers], rows.exchanges, rows.flags, strict=True
    )
    assert list(columns) == [(ns, *numbers, x, flags) for ns, numbers, x, flags in good]


def test_prices_times_sizes_and_ids_of_trades(tmp_path: Path) -> None:
    path = tmp_path / "ibm_20131007_trade_tick.csv"
    path.write_bytes(TRADE_HEADER + b"14430270,1815200,283,P,20002020,0\r\n14430270.25,1815201,5,,0,1\r\n")
    messages, rejects = read(path)
    start = 1381118400_000_000_000 + 14_430_270_000_000  # midnight in New York is 04:00 UTC
    assert [m["t"].to_unix_nano() for m in messages] == [start, start + 250_000]
    assert messages[0] | {"t": 0} == {
        "T": "t",
        "S": "IBM",
        "i": 1,
        "x": "P",
        "p": 181.52,
        "s": 283,
        "c": ["F", "T"],
        "t": 0,
        "z": "A",
    }
    assert (messages[1]["i"], messages[1]["x"], messages[1]["p"], messages[1]["c"]) == (2, "", 181.5201, [])
    assert rejects.count == 0


def test_a_bid_row_and_the_ask_row_after_it_are_one_quote(tmp_path: Path) -> None:
    path = tmp_path / "bac_20131007_quote_tick.csv"
    path.write_bytes(
        QUOTE_HEADER
        + b"5,0,0,140200,500,Q,1,0\n"  # an ask without its bid
        + b"6,138400,700,0,0,P,1,0\n6,0,0,139500,20000,N,1,0\n"  # a pair
        + b"7,138400,700,0,0,P,1,0\n8,0,0,139500,20000,P,1,0\n"  # not of one millisecond
        + b"9,1,1,0,0,P,1,0\n9,2,1,0,0,P,1,0\n9,0,0,3,1,K,1,0\n"  # the second bid is the ask's
        + b"10,1,1,2,2,P,1,0\n"  # both sides in one row
    )
    messages, _ = read(path)
    sides = [tuple(m[name] for name in ("bx", "bp", "bs", "ax", "ap", "as")) for m in messages]
    assert sides == [
        ("", 0.0, 0, "Q", 14.02, 500),
        ("P", 13.84, 700, "N", 13.95, 20000),
        ("P", 13.84, 700, "", 0.0, 0),
        ("", 0.0, 0, "P", 13.95, 20000),
        ("P", 0.0001, 1, "", 0.0, 0),
        ("P", 0.0002, 1, "K", 0.0003, 1),
        ("P", 0.0001, 1, "P", 0.0002, 2),
    ]


def test_pairs_and_equal_times_survive_the_cut_between_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = b"".join(
        b"%d,%d,7,0,0,P,1,0\n%d,0,0,%d,7,P,1,0\n" % (i // 7, i + 1, i // 7, i + 2) for i in range(200)
    )
    path = tmp_path / "bac_20131007_quote_tick.csv"
    path.write_bytes(QUOTE_HEADER + rows)
    whole, _ = read(path)
    assert len(whole) == 200
    for size in (20, 61, 500):
        monkeypatch.setattr(lines.blocks, "__defaults__", (size,))
        rejects = Rejects()
        found = ticks.recognise(path)
        assert isinstance(found, ticks.TickFile)
        blocks = list(ticks.read(found, Streams(), rejects))
        assert [msgpack.unpackb(m[3]) for b in blocks for m in b] == whole
        assert all(a[-1][0] < b[0][0] for a, b in itertools.pairwise(blocks))


def test_a_broken_line_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ibm_20131007_trade_tick.csv.gz"
    body = (
        b"1,10000,100,P,1,0\n2,10000,100,P,1\n-3,10000,100,P,1,0\n4,10000,hundred,P,1,0\n5,10000,100,P,1,0\n"
    )
    path.write_bytes(gzip.compress(TRADE_HEADER + body))
    messages, rejects = read(path)
    assert [m["i"] for m in messages] == [1, 2]
    assert [(r.line, r.raw, r.channel) for r in rejects.lines] == [
        (3, "2,10000,100,P,1", "trades"),
        (4, "-3,10000,100,P,1,0", "trades"),
        (5, "4,10000,hundred,P,1,0", "trades"),
    ]
    assert [r.reason for r in rejects.lines] == [
        "5 columns instead of 6",
        "negative time: '-3'",
        "size is not a whole number: 'hundred'",
    ]


def test_a_gzip_file_cut_short_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ibm_20131007_trade_tick.csv.gz"
    rows = b"".join(b"%d,%d,100,P,1,0\n" % (i, i * i) for i in range(60_000))
    data = gzip.compress(TRADE_HEADER + rows)
    path.write_bytes(data[: len(data) // 2])
    messages, rejects = read(path)
    assert len(messages) > 1000
    assert "the file ends here" in rejects.lines[-1].reason


def test_unusable_files_are_listed_and_alone_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "ibm_20131007_trade_tick.csv").write_bytes(b"")
    (tmp_path / "ibm_20131008_trade_tick.csv").write_bytes(b"1,2,3,P,1,0\n")
    (tmp_path / "ibm_20131399_trade_tick.csv").write_bytes(TRADE_HEADER)
    (tmp_path / "ibm_20131009_trade_tick.csv.gz").write_bytes(b"\x1f\x8bnot gzip")
    rejects = Rejects()
    with pytest.raises(ConfigError, match="no tick file"):
        Inputs([tmp_path], rejects)
    assert len(rejects.skipped_files) == 5
    with pytest.raises(ConfigError, match="no such file or folder"):
        Inputs([tmp_path / "absent"], rejects)
