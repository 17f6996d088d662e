"""A change of a schema that old readers or an old log cannot stand must be refused before it is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import catalogue, examples, lock
from schemas.compatibility import differences, problems, unreadable

Schema = dict[str, Any]


def _field(schema: Schema, name: str) -> Schema:
    found = next(field for field in schema["fields"] if field["name"] == name)
    assert isinstance(found, dict)
    return found


def _remove(name: str) -> Callable[[Schema], None]:
    return lambda schema: schema["fields"].remove(_field(schema, name))


def _retype(name: str, type_: Any) -> Callable[[Schema], None]:
    return lambda schema: _field(schema, name).update(type=type_)


def _add(**field: Any) -> Callable[[Schema], None]:
    return lambda schema: schema["fields"].append(field)


REFUSED: dict[str, tuple[str, Callable[[Schema], None], str]] = {
    "a field without a default is removed": ("stock_trade", _remove("size"), "size: missing"),
    "a field without a default is added": ("stock_trade", _add(name="n", type="long"), "n: missing"),
    "a type changes": ("stock_trade", _retype("size", "string"), "size: type long became string"),
    "a type is widened": ("stock_trade", _retype("size", "double"), "size: type long became double"),
    "a string becomes bytes": ("stock_trade", _retype("tape", "bytes"), "tape: type string became bytes"),
    "an array's items change": (
        "stock_trade",
        _retype("conditions", {"type": "array", "items": "long"}),
        "conditions[]: type string became long",
    ),
    "an enum loses a symbol": (
        "stock_trade",
        lambda s: _field(s, "source")["type"]["symbols"].remove("rss"),
        "source: the enum lacks rss",
    ),
    "an enum gains a symbol": (
        "stock_trade",
        lambda s: _field(s, "source")["type"]["symbols"].append("fax"),
        "source: the enum lacks fax",
    ),
    "a field becomes nullable": ("stock_trade", _retype("tape", ["null", "string"]), "tape: null is not"),
    "a nullable field loses null": ("stock_trade", _retype("extra", "string"), "extra: null is not"),
    "the record is renamed": ("stock_trade", lambda s: s.update(name="Trade"), "name tidewire.StockTrade"),
    "money becomes another scale": (
        "portfolio_position",
        lambda s: _field(s, "quantity")["type"].update(scale=9),
        "quantity: logical type decimal(38, 18) became decimal(38, 9)",
    ),
    "money becomes bytes": ("portfolio_position", _retype("quantity", "bytes"), "quantity: logical type"),
    "a field inside a list changes": (
        "account_snapshot",
        lambda s: _field(_field(s, "orders")["type"]["items"], "status").update(type="long"),
        "orders[].status: type string became long",
    ),
    "a default changes": (
        "stock_trade",
        lambda s: _field(s, "extra").update(type=["string", "null"], default=""),
        "extra: the default changed",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_that_breaks_a_reader_is_refused(change: str) -> None:
    """Each of these, once written, would dead-letter records or give them another meaning."""
    stem, mutate, reason = REFUSED[change]
    schema = deepcopy(catalogue.schema(stem))
    mutate(schema)
    found = problems(lock.read(), {stem: schema})
    assert any(reason in problem for problem in found), found
    assert all(problem.startswith(f"{stem}.avsc against version ") for problem in found)


@pytest.mark.parametrize(
    "mutate",
    [
        _add(name="venue", type=["null", "string"], default=None),
        _add(name="count", type="long", default=0),
        _remove("extra"),
        lambda s: s["fields"].reverse(),
        lambda s: s.update(doc="a better comment"),
    ],
    ids=["nullable field added", "defaulted field added", "defaulted field removed", "order", "doc"],
)
def test_a_change_that_all_can_stand_is_allowed(mutate: Callable[[Schema], None]) -> None:
    """A check that refuses these would make people go round it."""
    schema = deepcopy(catalogue.schema("stock_trade"))
    mutate(schema)
    assert differences(catalogue.schema("stock_trade"), schema) == []


def test_it_is_compared_with_every_former_version() -> None:
    """Version 3 that reads version 2 only would lose the oldest part of the log."""
    first: Schema = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "long", "default": 0}]}
    second: Schema = {"type": "record", "name": "T", "fields": []}
    third: Schema = {
        "type": "record",
        "name": "T",
        "fields": [{"name": "a", "type": "string", "default": ""}],
    }
    entries = lock.extend(lock.extend((), {"t": first}), {"t": second})
    assert differences(second, third) == []
    found = problems(entries, {"t": third})
    assert found
    assert all("against version 1: a: " in problem for problem in found)


_TYPES: list[Any] = [
    "long",
    "string",
    "double",
    ["null", "long"],
    ["null", "string"],
    {"type": "array", "items": "string"},
    {"type": "array", "items": "long"},
]
_DEFAULTS = {"long": 0, "string": "", "double": 0.0}


@st.composite
def _schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    fields = []
    for name in names:
        type_ = draw(st.sampled_from(_TYPES))
        field = {"name": name, "type": type_}
        if draw(st.booleans()):
            field["default"] = (
                None if isinstance(type_, list) else [] if isinstance(type_, dict) else _DEFAULTS[type_]
            )
        fields.append(field)
    return {"type": "record", "name": "T", "fields": fields}


@given(_schemas(), _schemas())
def test_what_is_called_readable_is_read_by_an_avro_library(writer: Schema, reader: Schema) -> None:
    """The check is our own code: fastavro must agree whenever it says yes."""
    if unreadable(writer, reader):
        return
    buffer = io.BytesIO()
    record = next(examples.records(writer))
    fastavro.schemaless_writer(buffer, deepcopy(writer), record)
    buffer.seek(0)
    found = fastavro.schemaless_reader(buffer, deepcopy(writer), deepcopy(reader))
    assert isinstance(found, dict)
    assert set(found) == {field["name"] for field in reader["fields"]}
    assert all(found[name] == record[name] for name in set(found) & set(record))
