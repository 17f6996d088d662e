"""The accounts of one partition as live objects, and as the rows of its table. Pure.

Rows by key: `execution|account|symbol|id` (a fill, bust or correction), `action|account|symbol|id` (an
activity), `chunk|account|symbol|n` (ids of what is in a holding's base), `holding|account|symbol`,
`order|account|order id`, `account|account`. A row may be lost in a crash while others are not, as long as a
replay brings it: what a row depends on is put before it, and deletions come last (Records).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from processors.columns.records import Records
from processors.portfolio import account as accounts
from processors.portfolio import actions, executions, holding_rows, orders
from processors.portfolio.account import Account
from processors.portfolio.actions import Action
from processors.portfolio.exact import exact
from processors.portfolio.history import Kept
from processors.portfolio.holding import Holding
from processors.portfolio.orders import Order
from schemas.event_id import SIZE

Live = Holding | Order | Account


class Shelf:
    """Loads what the table holds; `touch`, `keep` and `drop` say what it is to write at the next commit.

    `folded` holds, by input (update, snapshot, mark, activity), the greatest offset that a loaded row had
    folded, plus 1.
    """

    def __init__(self, records: Records) -> None:
        self.accounts: dict[str, Account] = {}
        self.folded = {"update": 0, "snapshot": 0, "mark": 0, "activity": 0}
        self._records = records
        self._dirty: dict[bytes, Live] = {}
        self._rows: dict[bytes, dict[str, Any] | None] = {}
        with exact():
            self._load()
        records.prepare = self._store

    def account(self, name: str) -> Account:
        """The account of that name, a new one if there is none."""
        if name not in self.accounts:
            self.accounts[name] = Account(name)
        return self.accounts[name]

    def touch(self, live: Live) -> None:
        """It has changed."""
        self._dirty[_key_of(live)] = live

    def keep(self, held: Holding, one: Kept) -> None:
        """A new execution or activity."""
        row = actions.to_row(one) if isinstance(one, Action) else executions.to_row(one)
        self._rows[_kept_key(held, one)] = row

    def drop(self, held: Holding, one: Kept) -> None:
        """One that is no longer kept on its own."""
        self._rows[_kept_key(held, one)] = None

    def absorbed(self, held: Holding, moved: list[Kept]) -> None:
        """Those that have gone into the holding's base, whose ids stay known."""
        self._rows[_chunk_key(held, held.chunks - 1)] = {"ids": "".join(one.id for one in moved)}
        for one in moved:
            self.drop(held, one)

    def is_absorbed(self, held: Holding, one: Kept) -> bool:
        """Whether it has gone into the holding's base."""
        return any(one.id in self._chunk(held, chunk) for chunk in range(held.chunks))

    def forget(self, order: Order) -> None:
        """An order that ended long ago."""
        self._dirty.pop(_key_of(order), None)
        self._rows[_key_of(order)] = None

    def _load(self) -> None:
        kept: dict[tuple[str, str], list[Kept]] = {}
        for key in list(self._records.keys()):
            kind, name, *rest = key.decode().split("|")
            row = self._records.get(key)
            assert row is not None
            if kind in ("execution", "action"):
                one: Kept = (executions if kind == "execution" else actions).from_row(rest[-1], row)
                kept.setdefault((name, "|".join(rest[:-1])), []).append(one)
                self._saw("update" if kind == "execution" else "activity", one.offset + 1)
            elif kind != "chunk":
                self._load_live(kind, name, "|".join(rest), row)
        for (name, symbol), found in kept.items():
            held = self.account(name).holdings.get(symbol)
            if held is not None:  # else a crash kept it from the changelog, and the replay brings both
                self._restore(self.account(name), held, found)

    def _load_live(self, kind: str, name: str, rest: str, row: dict[str, Any]) -> None:
        account = self.account(name)
        if kind == "account":
            loaded = self.accounts[name] = accounts.from_row(name, row)
            loaded.holdings, loaded.orders = account.holdings, account.orders
            self._saw("snapshot", loaded.next_snapshot)
        elif kind == "order":
            order = account.orders[rest] = orders.from_row(name, rest, row)
            self._saw("update", order.next_update)
        else:
            held = account.holdings[rest] = holding_rows.from_row(name, rest, row)
            self._saw("mark", held.next_mark)

    def _saw(self, kind: str, offset: int) -> None:
        self.folded[kind] = max(self.folded[kind], offset)

    def _restore(self, account: Account, held: Holding, found: list[Kept]) -> None:
        gone = self._left_over(account, held, found)
        for one in gone:
            self.drop(held, one)
        rest = sorted((one for one in found if one not in gone), key=attrgetter("key"))
        if account.opening is None:
            for one in rest:
                held.wait(one)
        else:
            held.restore(rest)

    def _left_over(self, account: Account, held: Holding, found: list[Kept]) -> list[Kept]:
        """Rows that a crash kept from being deleted."""
        opening = account.opening
        return [
            one
            for one in found
            if (opening is not None and opening.has(one))
            or (held.may_be_absorbed(one) and self.is_absorbed(held, one))
        ]

    def _chunk(self, held: Holding, chunk: int) -> frozenset[str]:
        key = _chunk_key(held, chunk)
        row = self._rows.get(key) or self._records.get(key)
        ids: str = row["ids"] if row is not None else ""
        return frozenset(ids[i : i + 2 * SIZE] for i in range(0, len(ids), 2 * SIZE))

    def _store(self) -> None:
        rows, self._rows = self._rows, {}
        dirty, self._dirty = self._dirty, {}
        for key, row in rows.items():
            if row is not None:
                self._records.put(key, row)
        for key, live in sorted(dirty.items(), key=lambda item: isinstance(item[1], Account)):
            self._records.put(key, holding_rows.to_row(live) if isinstance(live, Holding) else live.to_row())
        for key, row in rows.items():
            if row is None:
                self._records.delete(key)


def _key_of(live: Live) -> bytes:
    if isinstance(live, Holding):
        return f"holding|{live.account}|{live.symbol}".encode()
    if isinstance(live, Order):
        return f"order|{live.account}|{live.order_id}".encode()
    return f"account|{live.name}".encode()


def _kept_key(held: Holding, one: Kept) -> bytes:
    kind = "action" if isinstance(one, Action) else "execution"
    return f"{kind}|{held.account}|{held.symbol}|{one.id}".encode()


def _chunk_key(held: Holding, chunk: int) -> bytes:
    return f"chunk|{held.account}|{held.symbol}|{chunk}".encode()
