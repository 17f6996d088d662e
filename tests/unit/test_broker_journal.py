"""What a killed broker remembers: else a restart lost orders, or told of fills that never counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from simulator.broker import revisions
from simulator.broker.account_json import account_json, position_json
from simulator.broker.account_routes import activities
from simulator.broker.amounts import ONE
from simulator.broker.journal import Journal
from simulator.broker.order_list import Query, orders
from simulator.broker.recovery import restore
from tests.broker_harness import HOUR, World


@pytest.fixture
def lived(tmp_path: Path) -> World:
    """A broker with a past, kept in a journal change by change."""
    world, journal = World(), Journal(tmp_path)
    journal.open(fresh=True)
    world.keep = journal.keep
    world.quote("AAPL", 99, 100, 10)
    world.quote("BTC/USD", 60_000, 60_010)
    world.order("AAPL", "buy", 25)
    world.quote("AAPL", 99, 100, 10)
    world.order("BTC/USD", "buy", notional="123.45")
    world.order("IBM", "buy", 3, type="limit", limit_price="150")
    world.order("AAPL", "buy", 5, n=2, order_class="bracket", take_profit={"limit_price": "120"},
                stop_loss={"stop_price": "80"})  # fmt: skip
    world.order("AAPL", "buy", 2, n=2, order_class="oto", stop_loss={"stop_price": "70"})
    world.order("BTC/USD", "buy", 1, n=2, type="limit", limit_price="100")
    world.order("IBM", "sell", 2, type="trailing_stop", trail_price="1", n=2)
    world.quote("IBM", 200, 201)
    world.quote("IBM", 202, 203)
    world.quote("AAPL", 101, 102, 3)
    order = world.order("AAPL", "buy", 1, type="limit", limit_price="90")["id"]
    world.replace(order, limit_price="91")
    execution = next(iter(world.broker.accounts[1].book.executions))
    revisions.correct(world.broker, execution, ONE * 3, ONE * 98)
    world.flush()
    journal.close()
    world.keep = None
    return world


def seen(world: World) -> dict[str, Any]:
    """Everything that a client can ask for."""
    price, shown = world.broker.view.price, {}
    for n, account in world.broker.accounts.items():
        account.opened = 0
        shown[str(n)] = {
            "account": account_json(account, price, world.now),
            "positions": [position_json(account, p, price) for p in account.book.open_positions()],
            "orders": orders(account, Query("all", 500, nested=True), world.broker.find),
            "activities": activities(account, {}, None),
        }
    return shown


def again(world: World, folder: Path) -> World:
    """A broker that reads the journal, in the same market."""
    other = World()
    other.now = world.now
    other.quotes.update(world.quotes)
    journal = Journal(folder)
    assert restore(other.broker, journal.open(fresh=False))
    assert journal.count == sum(len(c.updates) for c in world.changes)
    journal.close()
    return other


def test_a_restarted_broker_is_as_before(lived: World, tmp_path: Path) -> None:
    other = again(lived, tmp_path)
    assert seen(other) == seen(lived)
    for world in (lived, other):
        world.quote("AAPL", 79, 80, 1_000)  # partial fills go on, the bracket's stop is reached
        world.quote("IBM", 205, 206)
        world.wait(6 * HOUR)
    shown, expected = seen(other), seen(lived)
    assert [o["status"] for o in shown["2"]["orders"]] == [o["status"] for o in expected["2"]["orders"]]
    assert shown["1"]["account"]["cash"] == expected["1"]["account"]["cash"]
    assert shown["2"]["account"]["cash"] == expected["2"]["account"]["cash"]


def test_event_ids_and_times_go_on_after_those_of_the_earlier_run(lived: World, tmp_path: Path) -> None:
    before = [u.message["data"] for c in lived.changes for u in c.updates]
    other = again(lived, tmp_path)
    other.now -= HOUR
    other.order("AAPL", "buy", 1)
    after = other.changes[0].updates[0].message["data"]
    assert after["event_id"] > max(d["event_id"] for d in before)
    assert [d["event_id"] for d in before] == sorted({d["event_id"] for d in before})


@pytest.mark.parametrize("torn", [1, 40, 2_000])
def test_a_torn_end_is_cut_back_to_the_last_whole_change(lived: World, tmp_path: Path, torn: int) -> None:
    path = tmp_path / "updates.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[:-torn])
    journal = Journal(tmp_path)
    journal.open(fresh=False)
    kept = path.read_bytes().splitlines(keepends=True)
    journal.close()
    assert kept == lines[: len(kept)]
    assert 0 < len(lines) - len(kept) <= 8
    assert "state" in orjson.loads(kept[-1]), "what it ends with is whole"


def test_each_line_says_whose_update_it_is(lived: World, tmp_path: Path) -> None:
    lines = [orjson.loads(line) for line in (tmp_path / "updates.jsonl").read_bytes().splitlines()]
    sent = [u for c in lived.changes for u in c.updates]
    kept = [(line["account"], line["ts"], line["message"]) for line in lines]
    assert kept == [(u.account, u.ts, u.message) for u in sent]


def test_fresh_empties_the_journal(lived: World, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.open(fresh=True) == []
    journal.close()
    assert (tmp_path / "updates.jsonl").stat().st_size == 0
