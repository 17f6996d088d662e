"""Without these messages of several files would come in another order than the market's."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import rfc3339
from simulator.rejects import Rejects
from simulator.tape import Inputs, merge
from simulator.wire import Message, Stream, Streams

STREAM = Stream("trades", "A")


def blocks_of(times: list[int], source: int, cuts: int) -> list[list[Message]]:
    rows: list[Message] = [(t, n, STREAM, bytes((source,)), None) for n, t in enumerate(sorted(times))]
    blocks: list[list[Message]] = []
    for row in rows:
        if not blocks or (len(blocks[-1]) >= cuts and blocks[-1][-1][0] != row[0]):
            blocks.append([])
        blocks[-1].append(row)
    return blocks


@given(st.lists(st.lists(st.integers(0, 30), max_size=40), min_size=1, max_size=4), st.integers(1, 9))
def test_a_merge_is_a_stable_sort_of_everything(sources: list[list[int]], cuts: int) -> None:
    merged = [
        m for block in merge([iter(blocks_of(t, n, cuts)) for n, t in enumerate(sources)]) for m in block
    ]
    everything = [m for n, t in enumerate(sources) for block in blocks_of(t, n, cuts) for m in block]
    assert merged == sorted(everything, key=lambda m: m[0])


def test_json_lines_go_out_as_they_are_and_broken_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl.gz"
    trade = (
        b'{"T":"t","i":9,"S":"AAPL","x":"D","p":126,"s":1,'
        b'"t":"2021-02-22T15:51:44.208000001Z","c":["@","I"],"z":"C"}'
    )
    lines = [
        trade,
        b'{"T":"zz","S":"AAPL","t":"2021-02-22T10:51:45-05:00","new":{"a":[1,null]}}',
        b"not json",
        b'{"T":"t","t":"2021-02-22T15:51:44Z"}',
        b'{"T":"q","S":"AAPL","t":"yesterday"}',
        b"[1]",
    ]
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    rejects = Rejects()
    messages = [m for block in Inputs([path], rejects).stocks().read(Streams()) for m in block]
    shown = [msgpack.unpackb(m[3]) for m in messages]
    assert next(iter(shown[0])) == "T"
    assert type(shown[0]["p"]) is float
    assert shown[0]["t"].to_unix_nano() == 1614009104_208000001
    assert shown[1]["new"] == {"a": [1, None]}
    assert [(m[2].channel, m[2].symbol) for m in messages] == [("trades", "AAPL"), ("other", "AAPL")]
    assert [(r.line, r.reason.split(":")[0]) for r in rejects.lines] == [
        (3, "not JSON"),
        (4, "no S"),
        (5, "not an RFC 3339 time"),
        (6, "not a JSON object"),
    ]


@given(st.integers(0, rfc3339.LATEST))
def test_times_keep_their_nanoseconds_through_text(ns: int) -> None:
    assert rfc3339.parse(rfc3339.show(ns)) == ns


@pytest.mark.parametrize(
    "text", ["2021-02-30T00:00:00Z", "2021-02-22", "1969-12-31T23:59:59Z", "2021-02-22T15:51:44"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rfc3339.parse(text)
