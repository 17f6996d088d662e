"""Schema ids from a registry. None can be installed here without Docker, so a small one is written below: it
implements Confluent's endpoints (subjects, versions, ids, lookup) for real, over HTTP, and checks what it is
sent with fastavro; it was not compared with Confluent's own server.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import fastavro
import fastavro.schema
import pytest

from schemas import catalogue, examples, lock
from schemas.codec import load_codec
from schemas.registry import Registry
from tests.unit.columns_batches import block
from tests.unit.columns_batches import record as columns_record
from tidewire import config
from tidewire.columns import Decoder
from tidewire.config import Settings
from tidewire.errors import RecordError, SchemaError, UnreachableError

_STEMS = len(catalogue.stems())


def canonical(text: str) -> str:
    """The form in which two schemas are the same; fails where the text is no Avro schema."""
    return str(fastavro.schema.to_parsing_canonical_form(json.loads(text)))


@dataclass
class Store:
    """What the registry holds; `wanted_auth` and `read_only` make it refuse."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    next_id: int = 1
    wanted_auth: str | None = None
    read_only: bool = False
    broken: bool = False
    requests: list[str] = field(default_factory=list)

    def register(self, subject: str, text: str, schema_id: int | None = None) -> int:
        """The id of the schema: the same for the same schema under any subject, as Confluent does it."""
        key = canonical(text)
        if key not in self.ids:
            self.ids[key] = self.next_id if schema_id is None else schema_id
            self.texts[self.ids[key]] = text
            self.next_id += 1
        versions = self.subjects.setdefault(subject, [])
        if self.ids[key] not in versions:
            versions.append(self.ids[key])
        return self.ids[key]


class _Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        if self._refused():
            return
        if found := re.fullmatch(r"/schemas/ids/(\d+)", self.path):
            text = self.store.texts.get(int(found[1]))
            self._answer({"schema": text}) if text else self._error(404, 40403, "Schema not found")
        elif found := re.fullmatch(r"/subjects/([^/]+)/versions(?:/(\d+|latest))?", self.path):
            versions = self.store.subjects.get(found[1])
            if versions is None:
                self._error(404, 40401, "Subject not found")
            elif found[2] is None:
                self._answer(list(range(1, len(versions) + 1)))
            else:
                self._answer(
                    self._version(found[1], len(versions) if found[2] == "latest" else int(found[2]))
                )
        else:
            self._error(404, 404, "HTTP 404 Not Found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        assert self.headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
        found = re.fullmatch(r"/subjects/([^/]+)(/versions)?", self.path)
        assert found is not None
        known = self.store.ids.get(canonical(body["schema"]))
        if found[2] is None:
            versions = self.store.subjects.get(found[1], [])
            if known in versions:
                self._answer(self._version(found[1], versions.index(known) + 1))
            else:
                self._error(404, 40403, "Schema not found")
        elif self.store.read_only:
            self._error(409, 409, "Schema being registered is incompatible with an earlier schema")
        else:
            self._answer({"id": self.store.register(found[1], body["schema"])})

    def _version(self, subject: str, number: int) -> dict[str, Any]:
        schema_id = self.store.subjects[subject][number - 1]
        return {
            "subject": subject,
            "version": number,
            "id": schema_id,
            "schema": self.store.texts[schema_id],
        }

    def _refused(self) -> bool:
        self.store.requests.append(f"{self.command} {self.path}")
        if self.store.broken:
            self._send(200, b"<html>not a registry</html>")
        elif self.store.wanted_auth not in (None, self.headers.get("Authorization")):
            self._error(401, 40101, "Unauthorized")
        else:
            return False
        return True

    def _answer(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode())

    def _error(self, status: int, code: int, message: str) -> None:
        self._send(status, json.dumps({"error_code": code, "message": message}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _settings(url: str) -> Settings:
    return config.load(_env_file=None, schema_registry_url=url, tidewire_topic_prefix="p.")


def test_the_registrys_ids_are_written_and_read(store: Store, url: str) -> None:
    """Every other tool of the company asks the registry for the id in front of a record."""
    codec = load_codec(_settings(url))
    assert set(store.subjects) == {f"p.{t.name}-value" for t in catalogue.TOPICS if t.schema}
    assert not codec.local
    for stem in catalogue.stems():
        record = next(examples.records(catalogue.schema(stem)))
        value = codec.encode(stem, record)
        assert codec.decode(value) == (stem, record)
        assert json.loads(store.texts[int.from_bytes(value[1:5], "big")]) == catalogue.schema(stem)


def test_a_second_start_registers_nothing(store: Store, url: str) -> None:
    """Restarts must neither change ids nor need the right to write."""
    first = load_codec(_settings(url))
    store.read_only = True
    store.requests.clear()
    assert load_codec(_settings(url)).ids == first.ids
    assert not [request for request in store.requests if request.endswith("/versions") and "POST" in request]


def test_former_versions_of_the_registry_are_read(store: Store, url: str) -> None:
    """The log holds records of versions that only the registry remembers."""
    schema = catalogue.schema("signal")
    former = {**schema, "fields": [f for f in schema["fields"] if f["name"] != "detail"]}
    old_id = store.register("p.signals-value", json.dumps(former))
    codec = load_codec(_settings(url))
    record = next(examples.records(former))
    assert old_id in codec.ids
    assert codec.schema_id("signal") != old_id
    old = b"\x00" + old_id.to_bytes(4, "big") + _encoded(former, record)
    assert codec.decode(old) == ("signal", {**record, "detail": None})
    assert [version.id for version in codec.versions("signal")] == [codec.schema_id("signal"), old_id]
    key = next(f["name"] for f in schema["fields"] if f["type"] == "string")
    sent = block([columns_record(0, record[key].encode(), old)])
    assert Decoder(codec.versions("signal"), key)([sent]).frame.to_dicts() == [codec.decode(old)[1]]


def _encoded(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, record)
    return buffer.getvalue()


def test_local_ids_imported_unchanged_are_kept(store: Store, url: str) -> None:
    """A log begun without a registry stays readable when its ids are imported into one."""
    for entry in lock.read():
        for topic in catalogue.TOPICS:
            if topic.schema == entry.stem:
                store.register(f"p.{topic.name}-value", json.dumps(entry.schema), entry.id)
    codec = load_codec(_settings(url))
    assert codec.local
    assert codec.schema_id("stock_trade") == 0x40000000


def test_a_mixture_of_ids_is_refused(store: Store, url: str) -> None:
    """Half imported: nobody could tell any more who gave an id."""
    entry = lock.read()[0]
    store.register(f"p.{catalogue.STOCK_TRADES}-value", json.dumps(entry.schema), entry.id)
    with pytest.raises(SchemaError, match=f"1 of {_STEMS} schemas under ids of lock.json"):
        load_codec(_settings(url))


def test_records_of_the_lock_file_are_unknown_to_the_registry(url: str) -> None:
    """Such a record is a dead letter with a reason, never a guess."""
    local = load_codec(config.load(_env_file=None))
    record = next(examples.records(catalogue.schema("stock_trade")))
    with pytest.raises(RecordError, match="unknown schema id 1073741824"):
        load_codec(_settings(url)).decode(local.encode("stock_trade", record))


def test_an_incompatible_schema_is_reported(store: Store, url: str) -> None:
    """The registry's own words, and the subject: that is what its owner asks for."""
    store.read_only = True
    with pytest.raises(SchemaError, match=r"refuses p\.alpaca\.stocks\.trades-value: 409 .*incompatible"):
        load_codec(_settings(url))


def test_user_and_password_are_sent_and_never_shown(store: Store, url: str) -> None:
    """Hosted registries want a sign-in; an error message must not carry it into a log."""
    store.wanted_auth = "Basic " + base64.b64encode(b"me:p@ss").decode()
    with_login = url.replace("://", "://me:p%40ss@")
    assert load_codec(_settings(with_login)).schema_id("stock_trade") == 1
    with pytest.raises(SchemaError, match="401") as caught:
        load_codec(_settings(url.replace("://", "://me:wrong@")))
    assert "wrong" not in str(caught.value)


def test_something_else_at_the_address_is_named(store: Store, url: str) -> None:
    """A web page instead of a registry must not end in a JSON traceback."""
    store.broken = True
    with pytest.raises(SchemaError, match="answers no JSON"):
        load_codec(_settings(url))


def test_a_registry_that_is_down_is_named() -> None:
    """Which address, and what to do."""
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9.*SCHEMA_REGISTRY_URL"):
        load_codec(_settings("http://127.0.0.1:9"))
    with pytest.raises(SchemaError, match=r"not an http\(s\) URL: registry:8081"):
        load_codec(_settings("registry:8081"))


def test_schemas_are_found_by_id(url: str) -> None:
    """How any consumer resolves the id in front of a record."""
    codec = load_codec(_settings(url))
    found = Registry(url).by_id(codec.schema_id("stock_bar"))
    assert found == catalogue.schema("stock_bar")
    assert Registry(url).by_id(999_999) is None
