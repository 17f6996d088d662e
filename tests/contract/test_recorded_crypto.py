"""A recorded market through the producer's path: every message a record, and a book that is never crossed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from producers.crypto import CryptoEncoder
from producers.intake import Intake
from schemas.codec import load_codec
from schemas.order_book import CROSSED, DELTA_FIRST, ODDITIES, OrderBook
from simulator.crypto.recording import Recording
from simulator.rejects import Rejects
from simulator.wire import Streams, frame
from tests.unit.producer_memory import Memory
from tidewire import config
from tidewire.metrics import ORDER_BOOK_ODDITIES

RECORDING = Path(__file__).resolve().parents[3] / "shared" / "data" / "crypto"
FILE = "btcusdt_20240808.gz"
CODEC = load_codec(config.load(_env_file=None))


@pytest.mark.skipif(
    not RECORDING.is_dir(), reason="the crypto recording (../shared/data/crypto) is not beside the project"
)
def test_recorded_minutes_become_records_and_one_sound_book() -> None:
    """A lost change would leave a level for ever; a clock 1.27 s behind the exchange must cost nothing."""
    memory, rejects, sent, ahead = Memory(), Rejects(), Counter[str](), 0
    intake = Intake("recorded", CryptoEncoder(CODEC, owner_epoch=1), memory, lambda topic: topic)
    before = {oddity: _counted(oddity) for oddity in ODDITIES}
    for block in Recording(RECORDING / FILE, Streams(), rejects).read():
        sent.update(f"alpaca.crypto.{message[2].channel}" for message in block)
        ahead = max(ahead, *(message[1] - message[0] for message in block))
        intake.frame(frame([message[3] for message in block]), block[-1][0])
    assert (rejects.count, memory.letters) == (0, [])
    assert Counter(topic for topic, *_ in memory.records) == sent
    assert sent["alpaca.crypto.orderbooks"] > 3_000
    assert ahead > 1_270_000_000
    found = {oddity: _counted(oddity) - before[oddity] for oddity in ODDITIES}
    assert found == dict.fromkeys(ODDITIES, 0) | {DELTA_FIRST: 3}
    book = OrderBook()
    for topic, _, value, _ in memory.records:
        if topic == "alpaca.crypto.orderbooks":
            assert CROSSED not in book.apply(CODEC.decode(value)[1])
    assert min(len(book.bids), len(book.asks)) > 1_000
    assert 0 < book.asks[0][0] - book.bids[0][0] < 1


def _counted(oddity: str) -> float:
    return float(ORDER_BOOK_ODDITIES.labels(oddity)._value.get())
