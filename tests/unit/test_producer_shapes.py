"""Every shape in which Alpaca sends market data becomes a record, those too that alpaca-py drops.

The messages are those of Alpaca's own documents, and the fixtures collected from the tests of its SDKs and
from what its users wrote down. What Alpaca documents nowhere ends as a dead letter with its bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest

from producers.channel import Encoder
from producers.crypto import CryptoEncoder
from producers.encoder import Encoder as StockEncoder
from producers.entrance import Bars, Window
from producers.intake import Intake
from producers.news import NewsEncoder
from producers.options import OptionEncoder
from schemas.codec import load_codec
from tests.unit.producer_memory import Memory
from tidewire import config

CODEC = load_codec(config.load(_env_file=None))
RECEIVED = 1_900_000_000_000_000_000
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "data" / "alpaca" / "fixtures"
SPECIFICATION = FIXTURES.parents[2] / "spec" / "alpaca.md"

DOCUMENTED = """
{"T":"t","i":96921,"S":"AAPL","x":"D","p":126.55,"s":1,"t":"2021-02-22T15:51:44.208Z","c":["@","I"],"z":"C"}
{"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":1,"ax":"Q","ap":87.68,"as":4,"t":"2021-02-22T15:51:45.335689322Z","c":["R"],"z":"C"}
{"T":"b","S":"SPY","o":388.985,"h":389.13,"l":388.975,"c":389.12,"v":49378,"n":461,"vw":389.062639,"t":"2021-02-22T19:15:00Z"}
{"T":"d","S":"SPY","o":388.985,"h":389.13,"l":388.975,"c":389.12,"v":749378,"t":"2021-02-16T04:00:00Z"}
{"T":"s","S":"AAPL","sc":"H","sm":"Trading Halt","rc":"T12","rm":"Trading Halted","t":"2021-02-22T19:15:00Z","z":"C"}
{"T":"l","S":"IONM","u":3.24,"d":2.65,"i":"B","t":"2023-04-06T13:34:45.565004401Z","z":"C"}
{"T":"c","S":"EEM","x":"M","oi":52983525033527,"op":39.1582,"os":440000,"oc":[" ","7"],"ci":52983525034326,"cp":39.1809,"cs":440000,"cc":[" ","7"],"z":"B","t":"2023-04-06T14:25:06.542305024Z"}
{"T":"x","S":"GOOGL","i":465,"x":"D","p":105.31,"s":300,"a":"C","z":"C","t":"2023-04-06T13:15:42.83540958Z"}
{"T":"i","S":"INAQU","p":9.12,"z":"C","t":"2024-12-13T19:58:09.242138635Z"}
{"T":"t","S":"AVAX/USD","p":47.299,"s":29.205707815,"t":"2024-03-12T10:27:48.858228144Z","i":3447222699101865076,"tks":"S"}
{"T":"q","S":"BAT/USD","bp":0.35718,"bs":13445.46,"ap":0.3581,"as":13561.902,"t":"2024-03-12T10:29:43.111588173Z"}
{"T":"b","S":"BTC/USD","o":71856.1435,"h":71856.1435,"l":71856.1435,"c":71856.1435,"v":0,"t":"2024-03-12T10:37:00Z","n":0,"vw":0}
{"T":"o","S":"MKR/USD","t":"2024-03-12T10:39:39.445492807Z","b":[],"a":[{"p":2614.587,"s":12.5308}]}
{"T":"t","S":"AAPL240315C00172500","t":"2024-03-11T13:35:35.13312256Z","p":2.84,"s":1,"x":"N","c":"S"}
{"T":"q","S":"SPXW240327P04925000","t":"2024-03-12T11:59:38.897261568Z","bx":"C","bp":9.46,"bs":53,"ax":"C","ap":9.66,"as":38,"c":"A"}
{"T":"q","S":"FAKEPACA","bx":"O","bp":133.85,"bs":4,"ax":"R","ap":135.77,"as":5,"c":["R"],"z":"A","t":"2024-07-24T07:56:53.639713735Z"}
"""  # noqa: E501

TOPICS = {
    "stocks": {"t": "trades", "q": "quotes", "b": "bars", "u": "bars", "d": "bars", "s": "statuses",
               "l": "lulds", "i": "imbalances", "c": "corrections", "x": "corrections"},
    "crypto": {"t": "trades", "q": "quotes", "b": "bars", "u": "bars", "d": "bars", "o": "orderbooks"},
    "options": {"t": "trades", "q": "quotes"},
}  # fmt: skip

NOT_ALPACAS = {
    "a correction whose original size is a text": "os is not an integer: '100'",
    "a stock bar with a fractional volume": "v is not an integer: 100.0",
    "a quote whose conditions are a text, as options have": "c is not a list: 'R'",
    "sketches of messages": "t is missing",
}
"""What fixtures hold that no document of Alpaca's has, and why it is no record."""


def _venue(message: dict[str, Any]) -> str:
    if "/" in message["S"]:
        return "crypto"
    return "options" if re.fullmatch(r"[A-Z]{1,6}\d{6}[CP]\d{8}", message["S"]) else "stocks"


def _encoder(venue: str) -> Encoder:
    made: dict[str, Encoder] = {
        "stocks": StockEncoder(CODEC, Window(), Bars(), owner_epoch=1),
        "crypto": CryptoEncoder(CODEC, owner_epoch=1),
        "options": OptionEncoder(CODEC, owner_epoch=1),
        "news": NewsEncoder(CODEC, owner_epoch=1),
    }
    return made[venue]


def _packed(message: dict[str, Any]) -> bytes:
    """As the socket brings it: msgpack, with times as timestamps."""
    wire = {k: _stamp(v) if k in ("t", "created_at", "updated_at") else v for k, v in message.items()}
    return bytes(msgpack.packb(wire))


def _stamp(text: str) -> msgpack.Timestamp:
    head, _, digits = text.removesuffix("Z").partition(".")
    return msgpack.Timestamp(
        int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp()), int((digits + "0" * 9)[:9])
    )


def _taken(message: dict[str, Any], venue: str) -> Memory:
    """One message through the frame loop."""
    memory = Memory()
    packed = _packed(message)
    count, control = Intake("shapes", _encoder(venue), memory, lambda t: t).frame(b"\x91" + packed, RECEIVED)
    assert (count, control) == (1, [])
    assert len(memory.records) + len(memory.letters) == 1
    assert all(letter.value == packed for letter in memory.letters)
    return memory


def _is_a_record(message: dict[str, Any], venue: str) -> None:
    ((topic, key, value, _),) = _taken(message, venue).records
    assert topic == f"alpaca.{venue}.{TOPICS[venue][message['T']]}"
    stem, record = CODEC.decode(value)
    assert (key.decode(), record["symbol"]) == (message["S"], message["S"])
    assert msgpack.Timestamp.from_unix_nano(record["ts"]) == _stamp(message["t"])
    assert stem.startswith({"stocks": "stock", "options": "option"}.get(venue, venue))


@pytest.mark.parametrize("line", DOCUMENTED.strip().splitlines(), ids=lambda text: text[5:32])
def test_what_alpaca_documents_becomes_a_record(line: str) -> None:
    """A channel whose messages are not taken is lost whole, and alpaca-py loses two of them."""
    message = json.loads(line)
    _is_a_record(message, _venue(message))
    assert "extra" not in message


def _fixtures(kind: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(FIXTURES.glob(kind)):
        for line in path.read_text("utf-8").splitlines():
            payload = json.loads(line)["payload"]
            found += [m for m in (payload if isinstance(payload, list) else [payload]) if "S" in m]
    return found


needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="the fixtures (../shared/data/alpaca/fixtures) are not here"
)


@needs_fixtures
def test_every_fixture_of_the_market_sockets_is_a_record_or_a_dead_letter_that_says_why() -> None:
    """Among them a status, a band, a correction and an order book, as the SDKs' own tests send them."""
    records: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for message in _fixtures("ws_*.jsonl"):
        memory = _taken(message, _venue(message))
        records.update(topic for topic, *_ in memory.records)
        reasons.update(letter.reason for letter in memory.letters)
    assert set(reasons) <= set(NOT_ALPACAS.values()), reasons
    assert records.keys() >= {
        "alpaca.stocks.trades", "alpaca.stocks.quotes", "alpaca.stocks.bars", "alpaca.stocks.statuses",
        "alpaca.stocks.lulds", "alpaca.stocks.corrections", "alpaca.crypto.trades", "alpaca.crypto.quotes",
        "alpaca.crypto.bars", "alpaca.crypto.orderbooks",
    }  # fmt: skip
    assert sum(records.values()) >= 15


@needs_fixtures
def test_the_fixture_of_a_correction_is_a_record_once_its_size_is_a_number() -> None:
    """The one official shape that is no record fails for its text in the place of a number alone."""
    (message,) = _fixtures("ws_correction.jsonl")
    _is_a_record({**message, "os": int(message["os"])}, "stocks")


@needs_fixtures
def test_every_article_of_the_fixtures_is_a_record() -> None:
    """An article that the producer cannot read reaches no analyzer."""
    articles = []
    for path in sorted(FIXTURES.glob("rest_news*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            payload = json.loads(line)["payload"]
            articles += payload.get("news", [payload] if "headline" in payload else [])
    whole = [a for a in articles if {"id", "headline", "created_at", "updated_at"} <= a.keys()]
    if not whole:
        pytest.skip("the fixtures hold no whole article")
    for article in whole:
        ((topic, key, _, _),) = _taken({"T": "n", **article}, "news").records
        assert (topic, key.decode()) == ("alpaca.news", str(article["id"]))


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="the specification (../shared/spec) is not here")
def test_the_specification_has_no_sample_that_is_missing_here() -> None:
    """Whatever is added there must be tried here."""
    samples = [s for s in SPECIFICATION.read_text("utf-8").splitlines() if s.startswith('{"T":')]
    kinds = {(_venue(m), m["T"]) for m in map(json.loads, samples) if "S" in m}
    assert kinds == {(_venue(m), m["T"]) for m in map(json.loads, DOCUMENTED.strip().splitlines())}
