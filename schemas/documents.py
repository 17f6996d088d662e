"""docs/topics: one page a topic, made from the catalogue and the schemas (`tidewire topics docs`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas import catalogue, lock
from schemas.catalogue import FOREVER, Topic
from tidewire.errors import SchemaError

_NOTE = "<!-- Written by `tidewire topics docs`. Change schemas/, not this file. -->\n"
_HEAD = """# Topics

Every topic of tidewire. A real name is `TIDEWIRE_TOPIC_PREFIX` followed by the name here. Each has a topic
of dead letters, `<topic>.dlq`, with as many partitions: the original bytes, and headers that say where
they stood and why they were given up. A topic without a schema exists only as its dead letters.

A value is Confluent's wire format: `0x00`, the schema id in 4 bytes (big-endian), then Avro binary. Ids are
those of `schemas/lock.json`, or the registry's when `SCHEMA_REGISTRY_URL` is set. Times are integers, ns
since 1970 UTC; market data are float64 as Alpaca sends them; money (orders, fills, positions) is Avro's
`decimal(38, 18)`. The Kafka timestamp is the receive time; event time is `ts`.

Partitions: *symbol* topics share one count (TIDEWIRE_PARTITIONS; 4 locally, 24 with three or more brokers)
and the symbol decides the partition, by Kafka's default murmur2; *key* topics have the same count and
the whole key decides; *one* means a single partition.

| Topic | Key | Partitions | Schema | Cleanup | Kept | What |
|---|---|---|---|---|---|---|
"""


def pages() -> dict[str, str]:
    """Every page's file name and text."""
    found = {f"{topic.name}.md": _page(topic) for topic in catalogue.TOPICS if topic.schema is not None}
    return {"README.md": _NOTE + "\n" + _HEAD + "".join(map(_line, catalogue.TOPICS)), **found}


def write(folder: Path) -> list[str]:
    """Write the pages and delete those of topics that are no more; returns the names that changed."""
    changed = stale(folder)
    wanted = pages()
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], "utf-8")
        else:
            (folder / name).unlink()
    return changed


def stale(folder: Path) -> list[str]:
    """The names of pages that are missing, out of date or no longer wanted."""
    wanted = pages()
    there = {path.name: path.read_text("utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def source_folder() -> Path:
    """docs/topics of the source tree that this program runs from.

    Raises:
        SchemaError: it runs from an installed package, which has no docs.
    """
    root = lock.PATH.parent.parent
    if not (root / "pyproject.toml").is_file():
        raise SchemaError("the topic pages are written in a source tree; this is an installed package")
    return root / "docs" / "topics"


def _line(topic: Topic) -> str:
    name = f"[`{topic.name}`]({topic.name}.md)" if topic.schema else f"`{topic.name}`"
    cells = (
        name,
        topic.key,
        spread(topic),
        topic.schema or "none",
        topic.cleanup_policy,
        kept(topic),
        topic.what,
    )
    return f"| {' | '.join(cells)} |\n"


def spread(topic: Topic) -> str:
    """What decides the partition: symbol, key, or one."""
    return "one" if topic.single else "symbol" if topic.by_symbol else "key"


def kept(topic: Topic) -> str:
    """How long records are kept, in words; of a topic without a schema, its dead letters."""
    if topic.compacted:
        return "newest a key"
    retention_ms = topic.retention_ms if topic.schema else catalogue.DEAD_LETTER_RETENTION_MS
    return "for ever" if retention_ms == FOREVER else f"{retention_ms // catalogue.DAY_MS} days"


def _page(topic: Topic) -> str:
    assert topic.schema is not None
    schema = catalogue.schema(topic.schema)
    entry = lock.newest(lock.read()).get(topic.schema)
    version = "not locked yet" if entry is None else f"version {entry.version}, local id {entry.id}"
    tables = "".join(_table(record) for record in _records(schema))
    return (
        f"{_NOTE}\n# `{topic.name}`\n\n{topic.what[:1].upper()}{topic.what[1:]}.\n\n"
        f"- Key: {topic.key}; partition by: {spread(topic)}\n"
        f"- Kept: {kept(topic)} (cleanup.policy={topic.cleanup_policy})\n"
        f"- Dead letters: `{topic.dead_letters}`\n"
        f"- Schema: [`{topic.schema}.avsc`](../../schemas/{topic.schema}.avsc), {version}\n{tables}"
    )


def _table(record: Mapping[str, Any]) -> str:
    rows = "".join(
        f"| `{field['name']}` | {_type(field['type'])} | {field.get('doc', '')} |\n"
        for field in record["fields"]
    )
    head = f"\n## {record['name']}\n\n{record.get('doc', '')}\n\n"
    return f"{head}| Field | Type | What |\n|---|---|---|\n{rows}"


def _records(schema: Any) -> list[Mapping[str, Any]]:
    """The record itself and those inside it, in the order of first mention."""
    if isinstance(schema, list):
        return [record for branch in schema for record in _records(branch)]
    if not isinstance(schema, Mapping):
        return []
    inner = [_records(field["type"]) for field in schema.get("fields", ())] + [_records(schema.get("items"))]
    own = [schema] if schema["type"] == "record" else []
    return own + [record for records in inner for record in records]


def _type(schema: Any) -> str:
    if isinstance(schema, list):
        return " or ".join(_type(branch) for branch in schema)
    if not isinstance(schema, Mapping):
        return str(schema)
    if schema["type"] == "array":
        return f"array of {_type(schema['items'])}"
    if schema["type"] == "enum":
        return f"enum: {', '.join(schema['symbols'])}"
    if schema.get("logicalType") == "decimal":
        return "decimal"
    return str(schema["name"]) if schema["type"] == "record" else _type(schema["type"])
