"""The account side whole: orders, fills, positions, exits, cash, news and crypto, from broker to two clients.

The demo's own report is not believed: a naive loop over the broker's journal is held against its REST, the
topics, PostgreSQL and what two signed-in clients were told.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from console.client.sign_in import gateway_url
from sinks.gateway.users import mint_session
from tests import ledger_files
from tests.e2e import account_digest, account_exits
from tests.e2e.account_client import AccountClient
from tests.e2e.account_digest import Books
from tests.e2e.account_trader import AccountTrader
from tests.e2e.demo_process import Ended, database_url, environment, get_json, run, start, until
from tidewire.config import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(420)]

USERS = {"demo": "demo-1", "other": "demo-2"}
NANOSECONDS = "(extract(epoch FROM ts) * 1000000)::int8 * 1000 + ts_nanos"
OF_A_POSITION = ("symbol", "quantity", "entryPrice", "side", "openedAt")
"""What fills decide; prices go on meanwhile."""


def test_every_order_event_reaches_its_user_and_nobody_else(settings: Settings, tmp_path: Path) -> None:
    """Otherwise a user sees shares, money or orders that are not theirs, or misses some that are; or a stop
    fires twice, not at all, or sells more than is held.
    """
    arguments = ["demo", "--json", "--accounts", "2", "--strategy"]
    demo = start(arguments, environment(settings), tmp_path)
    try:
        with following(settings) as clients:
            trader = AccountTrader(simulator_url(settings), seed=5)
            trader.start()
            until(lambda: trader.sent["canceled"] >= 2 and trader.sent["large"] >= 2, "orders of all kinds")
            the_brokers_rest_agrees(trader, settings)
            rest_equals_the_snapshot(settings, clients["demo"])
            others = clients["other"].get("/api/orders?status=all")["orders"]
            until(lambda: account_exits.filled(settings), "exit that was filled", 120)
            stored = until(lambda: account_exits.stored(settings), "stored trades", 120)
            until(lambda: account_exits.stored(settings) > stored, "more stored trades", 60)
            trader.stop()
            demo.send_signal(signal.SIGINT)
            ended = Ended(demo, 240)
    finally:
        if demo.poll() is None:
            demo.terminate()
            Ended(demo, 60)
    assert trader.ended is None
    books = account_digest.read_journal(settings.tidewire_home)
    complete(ended)
    account_exits.reported(ended)
    assert account_exits.at_the_broker(settings) == []
    run(["exits", "explain", "--all"], environment(settings), tmp_path, 60).assert_one_message(0)
    everywhere_the_same(settings, books)
    nobody_saw_anothers(clients, books, others)
    every_article_is_judged(settings)
    crypto_is_stored(settings)
    damage_is_seen(settings, books)


@contextmanager
def following(settings: Settings) -> Iterator[dict[str, AccountClient]]:
    """Two users' clients, from the moment that the gateway answers."""
    until(lambda: gateway_ready(settings), "gateway that is ready", 120)
    url, database = gateway_url(settings), database_url(settings)
    clients = {user: AccountClient(url, lambda user=user: mint_session(database, user)) for user in USERS}  # type: ignore[misc]
    try:
        for client in clients.values():
            client.start()
        until(lambda: all(client.cash for client in clients.values()), "snapshot for each client")
        yield clients
    finally:
        for client in clients.values():
            client.stop()


def services(settings: Settings) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads((settings.tidewire_home / "run" / "services.json").read_text())
        return loaded
    except (OSError, ValueError):
        return {}


def gateway_ready(settings: Settings) -> bool:
    address = services(settings).get("services", {}).get("gateway", {}).get("http")
    return address is not None and get_json(f"{address}/readyz") is not None


def simulator_url(settings: Settings) -> str:
    return str(services(settings)["simulator"]["status"]).removesuffix("/sim/status")


def the_brokers_rest_agrees(trader: AccountTrader, settings: Settings) -> None:
    """/v2/positions and /v2/account say what the loop says, when nothing happened between the two looks."""

    def same_state() -> bool:
        before = account_digest.read_journal(settings.tidewire_home)
        states = {n: trader.state(n) for n in (1, 2)}
        if account_digest.read_journal(settings.tidewire_home).events != before.events:
            return False
        for n, state in states.items():
            assert account_digest.at_the_broker(before, f"demo-{n}", *state) == []
        return True

    until(same_state, "moment without an order event")


def rest_equals_the_snapshot(settings: Settings, client: AccountClient) -> None:
    """A client that comes newly is told by its socket what REST says, before and after."""

    def same_answer() -> bool:
        newcomer = AccountClient(client.url, lambda: client.cookie)
        before = client.get("/api/positions")["positions"]
        newcomer.start()
        try:
            until(lambda: newcomer.messages, "snapshot")
        finally:
            newcomer.stop()
        after = client.get("/api/positions")["positions"]
        if not before or traded(before) != traded(after):
            return False
        assert newcomer.messages[0]["type"] == "batch"
        assert traded(newcomer.messages[0]["data"]["positions"]) == traded(after)
        return True

    until(same_answer, "moment without a fill")


def traded(positions: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(position[name] for name in OF_A_POSITION) for position in positions)


def complete(ended: Ended) -> None:
    body = ended.json
    assert body["complete"], (body["problems"], body["channels"])
    assert ended.code == 0
    for name in ("trades", "quotes", "crypto_trades", "crypto_quotes", "news", "order_events"):
        channel = body["channels"][name]
        assert channel["sent"] == channel["topic"] == channel["postgres"] > 0, (name, channel)
    orders = body["channels"]["order_events"]
    assert orders["table"] == orders["sent"]
    assert orders["pushed"] > 0


def everywhere_the_same(settings: Settings, books: Books) -> None:
    kafka, prefix = settings.kafka_bootstrap_servers, settings.tidewire_topic_prefix
    assert kafka is not None
    assert books.fills.total() > 5
    assert {"fill", "partial_fill", "canceled"} <= books.events_of.keys()
    assert account_digest.in_the_topics(books, kafka, prefix) == []
    assert account_digest.not_in_the_topic(books, kafka, prefix) == []
    with psycopg.connect(database_url(settings)) as connection:
        assert account_digest.in_postgres(books, connection) == []


def nobody_saw_anothers(
    clients: dict[str, AccountClient], books: Books, others: list[dict[str, Any]]
) -> None:
    for user, account in USERS.items():
        client = clients[user]
        assert client.ended is None
        assert client.users == {user}
        assert client.order_ids == books.orders_of[account]
        assert client.executions, "fills are told as they happen"
        assert client.executions <= books.executions_of(account)
        assert account_digest.at_the_client(books, account, client.positions, client.cash) == []
    assert {order["brokerOrderId"] for order in others} <= books.orders_of["demo-2"]


def every_article_is_judged(settings: Settings) -> None:
    """One row of news_sentiment for every symbol of every revision that the venue published."""
    published = Counter(
        (str(m["id"]), m["headline"], m["updated_at"].to_unix_nano(), tuple(m["symbols"]))
        for m in ledger_files.messages(settings.tidewire_home / "simulator" / "news" / "ledger")
    )
    with psycopg.connect(database_url(settings)) as connection:
        stored = Counter(
            (identity, headline, ts, tuple(symbols))
            for identity, headline, ts, symbols in connection.execute(
                f"SELECT id, headline, {NANOSECONDS}, symbols FROM news"
            )
        )
        assert stored == published
        due = connection.execute("SELECT DISTINCT id, revision, unnest(symbols) FROM news").fetchall()
        judged = connection.execute("SELECT article_id, revision, symbol FROM news_sentiment").fetchall()
    assert len(due) > 0
    assert Counter(judged) == Counter(due)


def crypto_is_stored(settings: Settings) -> None:
    """As many rows of each pair as the venue published."""
    kinds = {
        "t": "crypto_trades",
        "q": "crypto_quotes",
        "b": "crypto_bars",
        "u": "crypto_bars",
        "d": "crypto_bars",
    }
    published = Counter(
        (kinds[m["T"]], m["S"])
        for m in ledger_files.messages(settings.tidewire_home / "simulator" / "crypto" / "ledger")
        if m["T"] in kinds
    )
    stored: Counter[tuple[str, str]] = Counter()
    with psycopg.connect(database_url(settings)) as connection:
        for table in sorted(set(kinds.values())):
            for symbol, count in connection.execute(f"SELECT symbol, count(*) FROM {table} GROUP BY 1"):
                stored[table, symbol] = count
    assert stored == published


def damage_is_seen(settings: Settings, books: Books) -> None:
    """The same judge must say no to a fill that is gone, and to the smallest amount of money."""
    with psycopg.connect(database_url(settings)) as connection:
        connection.execute("DELETE FROM fills WHERE event_id = (SELECT max(event_id) FROM fills)")
        connection.execute("UPDATE accounts SET cash = cash + 1e-18 WHERE account = 'demo-2'")
        found = account_digest.in_postgres(books, connection)
    assert len(found) == 2, found
    assert any("is not in PostgreSQL" in text for text in found)
    assert any("demo-2: PostgreSQL has the cash" in text for text in found)
