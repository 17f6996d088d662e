"""Without these a restarted simulator would repeat or leave out messages, and reports would be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from simulator.conditions import update_rule
from simulator.history import History
from simulator.interest import Interest
from simulator.ledger import Ledger
from simulator.market import ASIDE, Market, pass_over, restore
from simulator.position import PositionFile, resume_point
from simulator.wire import Message, Streams, pack, timestamp

START = 1_381_152_600_000_000_000


def tape(count: int, streams: Streams) -> list[Message]:
    """Trades a second apart, so that bars leave in between."""
    rule = update_rule((), "C")
    messages: list[Message] = []
    for i in range(count):
        ns = START + i * 1_000_000_000
        fields = {"T": "t", "S": "AB"[i % 2], "i": i, "p": 1.0 + i, "s": 1, "t": timestamp(ns), "z": "C"}
        messages.append((ns, ns, streams.get("trades", "AB"[i % 2]), pack(fields), (1.0 + i, 1, rule)))
    return messages


class Run:
    """A market on a folder, as after a (re)start."""

    def __init__(
        self, folder: Path, *, fresh: bool = False, frame_messages: int = 3, file_bytes: int = 1 << 20
    ):
        self.streams = Streams()
        self.streams.choose(lambda channel, symbol: channel != "dailyBars")
        self.ledger = Ledger(folder / "ledger", file_bytes, 1 << 30)
        self.history = History(1 << 20)
        position = PositionFile(folder)
        self.ledger.open(fresh=fresh)
        intent = None if fresh else position.load()
        position.open(fresh=fresh)
        self.passed, cut = resume_point(intent, self.ledger.end)
        if cut is not None:
            self.ledger.cut(self.ledger.end[0], cut)
        self.aside = Ledger(folder / "aside", file_bytes, 1 << 30)
        self.aside.open(fresh=fresh)
        self.recovered = list(restore(self.ledger, self.aside, self.history))
        self.market = Market(
            self.streams, self.ledger, self.history, position, frame_messages, aside=self.aside
        )

    def play(self, count: int, batch: int, stop: int | None = None) -> None:
        """Publish the tape's rest in batches; stop before tape message `stop`."""
        for block in pass_over(self.market, iter([tape(count, self.streams)]), self.passed):
            for i in range(0, len(block), batch):
                if stop is not None and self.market.tape >= stop:
                    return
                self.market.publish(block[i : i + batch])
        if stop is None:
            self.market.finish()


def all_messages(folder: Path) -> list[dict[str, Any]]:
    return Run(folder).recovered


def test_a_ledger_holds_the_messages_as_sent_and_says_where(tmp_path: Path) -> None:
    run = Run(tmp_path, fresh=True)
    run.play(50, 7)
    found = all_messages(tmp_path)
    assert [m["i"] for m in found if m["T"] == "t"] == list(range(50))
    assert run.ledger.counts == {"trades": 50, "bars": 2}
    for symbol in "AB":
        numbers = run.history.between("trades", symbol, 0, 1 << 62)
        places = [run.history.entry(int(n)).place for n in numbers]
        assert [run.ledger.read(p) for p in places] == [
            m for m in found if m["T"] == "t" and m["S"] == symbol
        ]


@given(st.integers(1, 9), st.integers(0, 80), st.integers(0, 300))
def test_a_killed_run_goes_on_as_if_it_had_never_died(
    tmp_path_factory: Any, batch: int, stop: int, torn: int
) -> None:
    straight, killed = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    Run(straight, fresh=True).play(90, batch)
    Run(killed, fresh=True).play(90, batch, stop)
    # the kill comes while the last append is being written: up to `torn` bytes of it are missing
    file = killed / "ledger" / "000001.frames"
    intent = PositionFile(killed).load()
    if intent is not None:
        with file.open("r+b") as ledger:
            ledger.truncate(max(intent.start, intent.stop - torn))
    again = Run(killed)
    again.play(90, batch + 1)
    assert all_messages(killed) == all_messages(straight)
    assert again.ledger.counts == Run(straight).ledger.counts


def test_an_old_ledger_file_is_dropped_and_the_index_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 200, 500)
    ledger.open(fresh=True)
    for i in range(100):
        ledger.rotate_if_full()
        ledger.append([msgpack.packb([{"T": "t", "S": "A", "t": timestamp(i)}])])
        ledger.counts["trades"] += 1
    index = json.loads((tmp_path / "ledger.json").read_text())
    left = Ledger(tmp_path, 200, 500)
    left.open(fresh=False)
    aside = Ledger(tmp_path / "aside", 200, 500)
    aside.open(fresh=True)
    messages = list(restore(left, aside, History(10)))
    assert index["complete_from"] == 100 - len(messages) > 0
    assert left.counts["trades"] == 100
    assert sum(f.stat().st_size for f in tmp_path.glob("*.frames")) < 800


def test_what_nobody_is_subscribed_to_goes_aside_and_is_found_again(tmp_path: Path) -> None:
    """REST would lack what passed between two pieces of a subscription, as Alpaca's never does."""

    def trades(run: Run) -> dict[str, list[int]]:
        found = {}
        for symbol in "AB":
            entries = [run.history.entry(int(n)) for n in run.history.between("trades", symbol, 0, 1 << 62)]
            places = [entry.place for entry in entries]
            read = [
                run.aside.read(p._replace(file=p.file - ASIDE)) if p.file >= ASIDE else run.ledger.read(p)
                for p in places
            ]
            found[symbol] = [message["i"] for message in read if message is not None]
        return found

    run = Run(tmp_path, fresh=True)
    run.streams.choose(lambda channel, symbol: channel == "trades" and symbol == "A")
    run.play(50, 7)
    expected = {"A": list(range(0, 50, 2)), "B": list(range(1, 50, 2))}
    assert trades(run) == expected
    assert run.ledger.counts == {"trades": 25}
    again = Run(tmp_path)
    assert trades(again) == expected
    assert again.ledger.counts == {"trades": 25}
    assert [message["i"] for message in again.recovered] == list(range(50))  # in order, for the bars


def test_a_fresh_start_empties_the_ledger(tmp_path: Path) -> None:
    Run(tmp_path, fresh=True, file_bytes=100).play(20, 2)
    assert len(list((tmp_path / "ledger").glob("*.frames"))) > 1
    run = Run(tmp_path, fresh=True)
    assert (run.recovered, run.passed) == ([], 0)
    assert len(list((tmp_path / "ledger").glob("*.frames"))) == 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_history_finds_what_lies_between(rows: list[tuple[int, int]], start: int, end: int) -> None:
    history = History(1000)
    for n, (symbol, ns) in enumerate(rows):
        series = history.series_number("trades", str(symbol))
        history.append([ns], [series], 1, [n], [1])
        if n % 7 == 0:
            history.between("trades", "0", 0, 9)  # the index is built in pieces
    for symbol in range(6):
        numbers = history.between("trades", str(symbol), start, end)
        expected = sorted((ns, n) for n, (s, ns) in enumerate(rows) if s == symbol and start <= ns <= end)
        assert [(e.ns, e.place.offset) for e in map(history.entry, map(int, numbers))] == expected


def test_history_forgets_the_older_half_and_no_more(tmp_path: Path) -> None:
    history = History(10)
    for n in range(100):
        history.append([n], [history.series_number("trades", "A")], 1, [n], [1])
        kept = [e.ns for e in history.newest_first("trades", "A")]
        assert kept == list(range(n, n - len(kept), -1))
        assert min(5, n + 1) <= len(kept) <= 10


def test_messages_count_as_published_while_the_last_subscriber_is_away() -> None:
    trades = {"trades": frozenset({"A"})}
    interest = Interest()
    assert not interest.any
    interest.update(1, trades)
    interest.leave(1)
    assert interest.wanted("trades", "A")
    assert not interest.live
    interest.update(2, {})  # connected again, not yet subscribed
    assert interest.wanted("trades", "A")
    interest.update(2, {"quotes": frozenset({"*"})})
    assert not interest.wanted("trades", "A")
    assert interest.wanted("quotes", "B")
    interest.update(3, trades)
    interest.leave(2)  # somebody else is still there
    assert not interest.wanted("quotes", "B")
    interest.update(3, {})  # an explicit end is no outage
    interest.leave(3)
    assert not interest.any
