"""What the readers remember of owners. If it failed, a restart would let a stale owner's trades and fills in,
or leave good ones out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from processors.columns.matrix import Matrix
from processors.columns.records import Records
from processors.portfolio.book import APPLIED, DUPLICATE, STALE, Book
from sinks.gateway.alpaca_state import Connections
from sinks.postgres.epochs import Epochs
from tests.portfolio_history import BASE, SECOND, a_snapshot, an_update

OLD: dict[str, Any] = {"source": "ws", "owner_epoch": 7}
NEW: dict[str, Any] = {"source": "ws", "owner_epoch": 8}


def test_a_table_keeps_its_fences_in_its_changelog_and_writes_them_when_they_change() -> None:
    """A worker that takes a partition over knows the owners that its predecessor saw."""
    matrix = Matrix(2, partition=3)
    assert matrix.take_changed() == {}
    assert not matrix.fences["t"].stale(NEW, 10)
    changelog = matrix.take_changed()
    assert len(changelog) == 1
    assert matrix.take_changed() == {}
    recovered = Matrix(2, changelog, partition=3)
    assert len(recovered) == 0  # it is no row
    assert recovered.fences["t"].stale(OLD, 11)
    assert not recovered.fences["t"].stale(OLD, 9)
    assert recovered.take_changed() == {}


def test_an_account_keeps_its_fence_in_its_row() -> None:
    """A fill of a stale owner must not move a position, before a restart or after; other accounts' do."""
    records = Records(1)
    book = Book(records)
    book.fold_snapshot(a_snapshot(BASE), 0)
    assert book.fold_update(_fill(1) | NEW, 1) == APPLIED
    assert book.fold_update(_fill(2) | OLD, 2) == STALE
    assert book.fold_update(_fill(3) | OLD | {"source": "rest"}, 3) == APPLIED
    assert book.fold_update(_fill(4) | OLD | {"account": "other"}, 4) == APPLIED
    rows = {key: value for key, value in records.take_changed().items() if value is not None}
    again = Book(Records(1, rows))
    assert again.fold_update(_fill(2) | OLD, 2) == STALE
    assert again.fold_update(_fill(1) | NEW, 1) == DUPLICATE
    assert again.account("demo-1").holdings["AAPL"].now.quantity == 2


def _fill(number: int) -> dict[str, Any]:
    what = {"quantity": Decimal(1), "price": Decimal(5), "cumulative_quantity": Decimal(1), "side": "buy"}
    return dict(an_update("fill", f"o{number}", BASE + number * SECOND, **what))


def test_epochs_go_to_postgresql_and_back_by_account_and_partition() -> None:
    """A sink that starts again reads them where the offset is."""
    epochs, place, updates = Epochs(), ("t", 0), "alpaca.trade-updates"
    assert epochs.kept(place) == "{}"
    assert not epochs.stale(place, updates, NEW | {"account": "a"}, 5)
    assert not epochs.stale(place, updates, OLD | {"account": "b"}, 6)
    assert not epochs.stale(place, "alpaca.news", NEW, 5)
    again = Epochs()
    again.load(place, {"a": [[8, 5]], "b": [[7, 6]], "": [[8, 5]]})
    assert again.kept(place) == epochs.kept(place) == '{"a":[[8,5]],"b":[[7,6]],"":[[8,5]]}'
    assert again.stale(place, updates, OLD | {"account": "a"}, 7)
    assert not again.stale(place, updates, OLD | {"account": "b"}, 7)
    assert again.stale(place, "alpaca.news", OLD, 7)


def test_the_last_word_of_a_former_owner_does_not_hide_a_connection() -> None:
    """Clients would be told that Alpaca is away while its data flows."""
    known = Connections()
    record = {"state": "CONNECTED", "ts": BASE, "last_message_ts": BASE, "owner_epoch": 8}
    assert known.take("stocks:iex", record)
    assert not known.take("stocks:iex", record | {"state": "DISCONNECTED", "owner_epoch": 7})
    assert known.connected("stocks", BASE)
    assert known.take("stocks:iex", record | {"state": "DISCONNECTED", "owner_epoch": 9})
    assert not known.connected("stocks", BASE)
