"""The tables of gaps, as their newest records leave them, and of audits: a row a record, symbols as lists."""

from __future__ import annotations

from schemas import catalogue
from sinks.postgres.record_columns import (
    ID,
    OF_TOPIC,
    ORIGIN,
    PLACE,
    TIME,
    RecordTable,
    Source,
    integer,
    same,
    text,
)

GAPS = RecordTable(
    "gaps",
    ("id",),
    (
        *text("id", "feed"),
        *same("text[]", "channels", "symbols"),
        *TIME,
        *integer("opened_ts"),
        *text("state", "reason"),
        *integer("from_ts", "until_ts", "found", "published"),
        *same("text[]", "unrecoverable", "placed"),
        *text("detail"),
        *ORIGIN,
        *ID,
        *OF_TOPIC,
    ),
    current=True,
)
AUDITS = RecordTable(
    "audits",
    ("event_id",),
    (
        *ID,
        *text("feed", "channel"),
        *TIME,
        *same("text[]", "symbols", "differing"),
        *integer("expected", "held"),
        *same("boolean", "sampled"),
        *integer("audited_ts"),
        *text("detail"),
        *ORIGIN,
        *PLACE,
    ),
)
COMPLETENESS = (
    Source(catalogue.GAPS, "gap", GAPS),
    Source(catalogue.AUDITS, "audit", AUDITS),
)
