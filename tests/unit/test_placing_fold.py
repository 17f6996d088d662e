"""Rules x positions -> watches, against a naive reference that looks at everything anew after each step.

If these fail, an open position has no exit, a closed one still has, or one exit fires twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.columns.records import Records
from processors.placing.desk import Change, Desk
from processors.placing.position import Cause, Position
from schemas.exit_rules import PERMANENT, parse, read_parameters, rule_record
from schemas.order_ids import trigger_name

SECOND = 1_000_000_000
POLICY = {("one", "us_equity"): (("stop_loss", parse({"kind": "stop_loss", "percent": 5})),)}
SPECS = (
    {"kind": "stop_loss", "percent": "10"},
    {"kind": "take_profit", "price": "195.5"},
    {"kind": "trailing_stop", "trail_percent": "2"},
    {"kind": "trailing_stop", "trail_price": "1.5", "reference_symbol": "SPY"},
    {"kind": "time_stop", "after_seconds": 60},
)

Step = dict[str, Any]


def a_position(quantity: int | str, epoch: int = 1, ts: int = 1, **more: Any) -> Position:
    amount = Decimal(quantity)
    entry = Decimal(more.pop("entry", 100))
    base = Position(
        "one", "AAPL", "us_equity", epoch, amount, entry, amount * entry, epoch, False, Cause(ts, ts, "ws")
    )
    return replace(base, **more)


def a_result(exit_epoch: int, outcome: str, ts: int, **more: Any) -> Step:
    epoch = more.pop("epoch", 1)
    return {
        "account": "one",
        "symbol": "AAPL",
        "trigger_id": trigger_name("one", "AAPL", epoch, exit_epoch),
        "position_epoch": epoch,
        "outcome": outcome,
        "reason": "",
        "final": True,
        "remaining": Decimal(100),
        "filled_quantity": Decimal(0),
        "ts": ts,
        "received_ts": ts,
        "source": "ws",
    } | more


def a_rule(name: str, spec: Step, ts: int, active: bool = True) -> Step:
    return rule_record("one", "AAPL", name, parse(spec), "cli:anna", ts, active)


@dataclass
class Kafka:
    """What exits.watch and the changelog hold; the desk may be made anew from it at any time."""

    policies: Any = field(default_factory=lambda: POLICY)
    rows: dict[bytes, bytes] = field(default_factory=dict)
    watches: dict[bytes, Step | None] = field(default_factory=dict)
    written: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.records = Records(1, self.rows)
        self.desk = Desk(self.records, self.policies)

    def send(self) -> list[Change]:
        changes = self.desk.take()
        for change in changes:
            self.watches[change.key] = None if change.tombstone else change.watch
        self.written += len(changes)
        self.desk.written(changes)
        return changes

    def commit(self) -> None:
        for key, row in self.records.take_changed().items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def active(self) -> dict[str, Step]:
        return {w["rule"]: w for w in self.watches.values() if w is not None and w["active"]}


@dataclass
class Naive:
    """Everything that was said, and what follows from all of it: no increments, no rows."""

    said: list[tuple[str, Any]] = field(default_factory=list)

    def wanted(self) -> dict[str, tuple[Any, ...]]:
        now: Position | None = None
        rules: dict[str, Any] = {"stop_loss": POLICY["one", "us_equity"][0][1]}
        exits: dict[int, tuple[int, bool]] = {}
        held = False
        for kind, what in self.said:
            if kind == "position":
                epoch, done = exits.get(what.epoch, (0, False))
                same = now is not None and now.epoch == what.epoch
                if done and now is not None and same and abs(what.quantity) > abs(now.quantity):
                    exits[what.epoch] = epoch + 1, False
                now = what
            elif kind == "rule":
                rules[what["rule"]] = parse(what["spec"]) if what["active"] else None
            elif kind == "gap":
                held = what
            else:
                epoch, done = exits.get(what["position_epoch"], (0, False))
                of = int(what["trigger_id"].split(":")[-1])
                if of > epoch or (of == epoch and not done):
                    closed = not what["remaining"]
                    exits[what["position_epoch"]] = (of, True) if closed else (of + 1, False)
        if now is None or not now.quantity:
            return {}
        return {
            name: (
                spec.reference_symbol or "AAPL",
                now.epoch,
                exits.get(now.epoch, (0, False))[0],
                now.quantity,
                "unreconciled" if held else None,
            )
            for name, spec in rules.items()
            if spec is not None
        }


STEPS = st.one_of(
    st.tuples(st.just("trade"), st.sampled_from([-150, -100, -50, 50, 100, 150])),
    st.tuples(st.just("rule"), st.tuples(st.sampled_from(["stop_loss", "b"]), st.sampled_from(SPECS))),
    st.tuples(st.just("remove"), st.sampled_from(["stop_loss", "b"])),
    st.tuples(st.just("result"), st.sampled_from(["rejected", "partly", "filled"])),
    st.tuples(st.just("gap"), st.booleans()),
    st.tuples(st.just("crash"), st.booleans()),
    st.tuples(st.just("repeat"), st.integers(0, 5)),
)


@settings(max_examples=100)
@given(st.lists(STEPS, max_size=30))
def test_the_watches_are_those_of_the_naive_reference_whatever_is_repeated_or_lost(steps: list[Any]) -> None:
    """A position without its exits, or exits of another quantity or epoch; after a crash, too."""
    kafka, naive = Kafka(), Naive()
    log: list[tuple[str, Any, int]] = []  # everything since the last commit is read again after a crash
    seen: list[tuple[str, Any, int]] = []
    held = quantity = epoch = 0
    for ts, (kind, what) in enumerate(steps, 10):
        one: tuple[str, Any] | None = None
        if kind == "trade":
            before, quantity = quantity, quantity + what
            epoch += bool(quantity) and (not before or (before > 0) != (quantity > 0))
            one = "position", a_position(quantity, epoch, ts)
        elif kind in ("rule", "remove"):
            name, spec = what if kind == "rule" else (what, SPECS[0])
            one = "rule", a_rule(name, spec, ts, kind == "rule")
        elif kind == "result" and quantity:
            exit_epoch = kafka.desk.shelf.attempt(("one", "AAPL"), epoch).epoch
            left = {"rejected": 100, "partly": 50, "filled": 0}[what]
            filled = Decimal(what != "rejected")
            more = {"remaining": Decimal(left), "filled_quantity": filled, "epoch": epoch}
            one = "result", a_result(exit_epoch, what, ts, **more)
        elif kind == "gap":
            held = what
            kafka.desk.unreconciled({"one": Cause(ts, ts, "ws")} if held else {})
            naive.said.append(("gap", what))
        elif kind == "crash":
            if what:
                kafka.commit()
                log.clear()
            kafka.restart()
            kafka.desk.unreconciled({"one": Cause(ts, ts, "ws")} if held else {})
            for again in log:
                _fold(kafka, again)
        elif kind == "repeat":
            for again in seen[-what:] if what else []:
                if again[0] != "position":  # the portfolio itself never goes back
                    _fold(kafka, again)
        if one is not None:
            entry = (*one, ts)
            log.append(entry)
            seen.append(entry)
            naive.said.append(one)
            _fold(kafka, entry)
        kafka.send()
        found = {
            name: (w["symbol"], w["position_epoch"], w["exit_epoch"], w["quantity"], w["held"])
            for name, w in kafka.active().items()
        }
        assert found == naive.wanted()
        assert len(kafka.active()) == sum(w is not None and w["active"] for w in kafka.watches.values())
    kafka.commit()
    written = kafka.written
    kafka.restart()
    kafka.desk.unreconciled({"one": Cause(9, 9, "ws")} if held else {})
    kafka.send()
    assert kafka.written == written, "nothing is written again that stands already"


def _fold(kafka: Kafka, entry: tuple[str, Any, int]) -> None:
    kind, what, offset = entry
    if kind == "position":
        kafka.desk.position(what)
    elif kind == "rule":
        kafka.desk.fold_rule(what, offset)
    else:
        kafka.desk.fold_result(what)


def test_percents_are_of_the_entry_price_on_the_losing_side() -> None:
    """A stop on the wrong side of the price would sell at once, or never."""
    kafka = Kafka(policies={})
    kafka.desk.fold_rule(a_rule("sl", {"kind": "stop_loss", "percent": "2.5"}, 5), 0)
    kafka.desk.fold_rule(a_rule("tp", {"kind": "take_profit", "percent": "10"}, 5), 1)
    kafka.desk.position(a_position(10, entry="33.3333"))
    kafka.send()
    active = kafka.active()
    assert active["sl"]["stop_price"] == Decimal("33.3333") * Decimal("0.975")
    assert active["tp"]["limit_price"] == Decimal("33.3333") * Decimal("1.1")
    kafka.desk.position(a_position(-10, 2, 7, entry="33.3333"))
    kafka.send()
    active = kafka.active()
    assert active["sl"]["stop_price"] == Decimal("33.3333") * Decimal("1.025")
    assert active["tp"]["limit_price"] == Decimal("33.3333") * Decimal("0.9")
    assert {w["position_epoch"] for w in active.values()} == {2}


def test_attempts_in_vain_pause_for_longer_and_longer_and_a_hopeless_one_stays_down() -> None:
    """An exit that the broker refuses would be sent again and again within milliseconds."""
    kafka = Kafka()
    kafka.desk.position(a_position(100))
    pauses = []
    for exit_epoch in range(12):
        kafka.desk.fold_result(a_result(exit_epoch, "rejected", 100 + exit_epoch, reason="no"))
        kafka.send()
        watch = kafka.active()["stop_loss"]
        assert watch["exit_epoch"] == exit_epoch + 1
        assert watch["result"] == "rejected: no"
        pauses.append(read_parameters(watch["parameters"]).pause_seconds)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    kafka.desk.fold_result(a_result(12, "canceled", 200, filled_quantity=Decimal(3)))
    kafka.send()
    assert read_parameters(kafka.active()["stop_loss"]["parameters"]).pause_seconds == 0
    kafka.desk.fold_result(a_result(13, "refused", 201, reason=PERMANENT + "not tradable"))
    kafka.send()
    assert kafka.active()["stop_loss"]["held"] == "refused"
    kafka.desk.fold_rule(a_rule("stop_loss", SPECS[0], 300), 0)
    kafka.send()
    assert kafka.active()["stop_loss"]["held"] is None
    assert kafka.active()["stop_loss"]["exit_epoch"] == 14


def test_an_exit_that_is_done_is_armed_again_when_the_broker_still_holds_shares() -> None:
    """Shares that the executor's last look did not see would have no exit."""
    kafka = Kafka()
    kafka.desk.position(a_position(100))
    kafka.desk.fold_result(a_result(0, "filled", 50, remaining=Decimal(0)))
    kafka.send()
    assert kafka.active()["stop_loss"]["exit_epoch"] == 0
    kafka.desk.position(a_position(100, broker=(Decimal(100), 49)))
    kafka.desk.position(a_position(100, broker=(Decimal(0), 60)))
    kafka.send()
    assert kafka.active()["stop_loss"]["exit_epoch"] == 0
    kafka.desk.position(a_position(100, broker=(Decimal(100), 61)))
    kafka.send()
    assert kafka.active()["stop_loss"]["exit_epoch"] == 1


def test_a_result_that_is_read_before_its_position_counts() -> None:
    """A table that is folded anew would arm an exit epoch whose trigger the executor knows already."""
    kafka = Kafka()
    assert kafka.desk.fold_result(a_result(0, "expired", 50)) == "applied"
    assert kafka.desk.fold_result(a_result(0, "expired", 50)) == "duplicate"
    assert kafka.desk.fold_result(a_result(1, "accepted", 51, final=False)) == "not_final"
    assert kafka.desk.fold_result(a_result(1, "duplicate", 51)) == "not_final"
    assert kafka.desk.fold_result(a_result(1, "new", 51) | {"trigger_id": None}) == "not_an_exit"
    kafka.desk.position(a_position(100))
    kafka.send()
    assert kafka.active()["stop_loss"]["exit_epoch"] == 1


def test_prices_made_from_the_entry_price_change_their_basis_with_a_split_only() -> None:
    """A stop would be rescaled twice after a split, or not at all: both sell at once."""
    kafka = Kafka()
    kafka.desk.fold_rule(a_rule("tp", SPECS[1], 5), 0)
    kafka.desk.position(a_position(100, opened_ts=10, ts=11))
    kafka.send()
    assert {n: w["price_basis_ts"] for n, w in kafka.active().items()} == {"stop_loss": 10, "tp": 5}
    kafka.desk.position(a_position(60, opened_ts=10, ts=20))
    kafka.send()
    assert kafka.active()["stop_loss"]["price_basis_ts"] == 10
    split = ((30, Decimal(4)),)
    kafka.desk.position(a_position(240, opened_ts=10, ts=35, entry=25, cost=Decimal(6000), splits=split))
    kafka.send()
    assert {n: w["price_basis_ts"] for n, w in kafka.active().items()} == {"stop_loss": 30, "tp": 5}
    assert kafka.active()["stop_loss"]["stop_price"] == Decimal("23.75")
    told = {n: read_parameters(w["parameters"]).splits for n, w in kafka.active().items()}
    assert told == {"stop_loss": split, "tp": split}


def test_what_could_not_be_sent_is_sent_later_and_old_releases_become_tombstones() -> None:
    """A watch lost on its way to Kafka would leave the position unguarded; released ones would pile up."""
    kafka = Kafka()
    kafka.desk.position(a_position(100))
    changes = kafka.desk.take()
    assert changes
    assert not kafka.desk
    kafka.desk.again(changes)
    assert [c.key for c in kafka.send()] == [c.key for c in changes]
    for number in range(1_999):
        p = replace(a_position(1, ts=10 + number), symbol=f"S{number}")
        kafka.desk.position(p)
        kafka.desk.position(replace(p, quantity=Decimal(0)))
        kafka.desk.position(replace(p, epoch=2))
    kafka.send()
    for number in range(1_999):
        gone = replace(a_position(0, 2, ts=5_000 + number), symbol=f"S{number}")
        kafka.desk.position(gone)
    kafka.desk.position(a_position(0, 1, ts=9_000))
    kafka.send()
    kafka.send()
    tombstones = [key for key, watch in kafka.watches.items() if watch is None]
    assert len(tombstones) == 1_000
    kafka.commit()
    assert sum(key.startswith(b"watch|") for key in kafka.rows) == 1_000
    assert all(json.loads(row) for row in kafka.rows.values())
