"""Every activity and order event that was collected from Alpaca goes through the fold, or says why not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from processors.portfolio import refusals
from processors.portfolio.book import APPLIED, STREAMED
from processors.portfolio.exact import exact
from producers.accounts import activities, updates
from schemas import trading_values as values
from schemas.codec import load_codec
from tests.portfolio_activities import D, opened
from tests.portfolio_history import BASE
from tidewire import config
from tidewire.errors import RecordError

CODEC = load_codec(config.load(_env_file=None))
FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "alpaca" / "fixtures"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no collected samples beside this checkout")
def test_every_collected_activity_goes_through_or_says_why() -> None:
    """Shapes that were really seen would stop the fold, or move shares that nobody moved."""
    book, results = opened(), Counter[str]()
    for offset, raw in enumerate(samples("rest_activity")):
        try:
            found = activities.content("demo-1", raw)
        except RecordError:
            results["no record"] += 1
            continue
        record = found | {"received_ts": BASE, "source": "rest", "owner_epoch": 1}
        stored = CODEC.decode(CODEC.encode("account_activity", record))[1]
        assert refusals.of_activity(stored) is None
        results[book.fold_activity(stored, offset)] += 1
    # No record: three descriptions of fields, and a fill with an id of a test that no broker gives.
    assert results == {APPLIED: 10, STREAMED: 7, "no record": 4}
    paid = D("33324.35") + D("29161.91") + D("43864.18") + D("32155.97") + D("20979.69") + D("22386.64")
    with exact():
        assert book.account("demo-1").cash > 1_000_000 + paid
    assert {h.now.quantity for h in book.account("demo-1").holdings.values()} == {0}


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no collected samples beside this checkout")
def test_every_collected_trade_update_goes_through_or_says_why() -> None:
    """The stream's own shapes, from the message to the position."""
    book, results = opened(), Counter[str]()
    raws = [*samples("ws_trade_update"), *samples("ws_trade_update_data")]
    for offset, raw in enumerate(raws):
        try:
            found = updates.content("demo-1", raw.get("data", raw))
        except RecordError:
            results["no record"] += 1
            continue
        record = found | {"received_ts": BASE, "source": "ws", "owner_epoch": 1}
        stored = CODEC.decode(CODEC.encode("trade_update", record))[1]
        assert refusals.of_update(stored) is None
        results[book.fold_update(stored, offset)] += 1
    assert results.total() == len(raws) >= 5


def samples(stem: str) -> list[Any]:
    """The payloads of a file of samples."""
    found: list[Any] = []
    for line in (FIXTURES / f"{stem}.jsonl").read_text().splitlines():
        payload = values.parse(json.dumps(json.loads(line)["payload"]))
        found += payload if isinstance(payload, list) else [payload]
    return found
