"""Faults on demand: what POST /sim/faults may ask for. Pure.

A fault acts on one venue: `venue` is stocks (if left out), crypto, news, options or trading (the socket of
order events, /stream). What it does to a socket it does to every one that is signed in at that moment.

The connection:
- `drop`                       the TCP connection is aborted (RST), no close frame
- `close` code=1001            an orderly close frame
- `half_frame`                 half a WebSocket frame, then RST
- `outage` seconds=10          every socket is reset, and every handshake for so long
- `refuse_http` code=429 count=1 retry_after=None   the next handshakes get this HTTP status
- `refuse_auth` code=402 count=1    the next sign-ins are refused
- `hold` seconds=90            sign-ins get 406, as if a dead socket held the endpoint (not trading)
- `refuse_symbols` symbols=[] code=405   a subscribe that names one of them is refused whole (405 or 400),
  until the next such fault; without symbols nothing is (not trading)
- `error` code=500 close=false an error frame; then a close if asked (trading: always, and without a code)

Data frames:
- `mute` seconds=None          the socket stays open and its data is lost (None: until `unmute`)
- `delay` seconds=5            data is held back for so long, then all of it sent
- `repeat` frames=1            the next data frames are sent twice
- `truncate` frames=1 extra=false   the next data frames are cut in the middle (extra: a cut copy goes before
  the whole one, so that nothing is lost but the copy)
- `malformed` frames=1 message={}   the next data frames get one more message, by default a broken trade
- `huge` frames=1 size=1200000 inside=false   the next data frames get a message of so many bytes and of a
  type that nobody knows (inside: the frame's own first message gets a field of this size instead)
- `reorder` frames=10 window=8 seed=1   the messages of the next frames are shuffled, so many at a time; what
  is short of a window is sent after half a second

Single messages:
- `skip` count=1 channels=None symbols=None accounts=None every=1   the next matching messages (every n-th of
  them) that somebody waits for are published (ledger or journal, REST, bars, account) and never sent to any
  socket; a count of 0 ends the skipping. Channels are those of the venue; trading: trade_updates, or names of
  events. Accounts are numbers, trading only. The answer says how many are still to come; GET /sim/skipped
  lists the others.

REST:
- `status_http` code=503 count=1 path=None method=None retry_after=None message=None   the next requests to
  the venue's history and latest values (trading: to orders, positions, account...), or to paths that begin
  with `path`, get this HTTP status, with `message` as the JSON of the answer, and nothing is done; a 429 of
  trading tells by X-RateLimit-Reset, too, when to come again; with seconds=None trading answers so late

Trading's REST once more, where the request is done all the same. Each takes path="/v2/orders" method="POST"
accounts=None (numbers) every=1 (the n-th, 2n-th... such request) and count=1:
- `answer_late` seconds=10     its answer comes so late
- `answer_stalled` seconds=10  its headers and the half of its body come at once, the rest so late
- `answer_lost`                the TCP connection is aborted (RST) instead of an answer
- `answer_http` code=504 message=None   it is answered with this HTTP status, as if it had failed

GET /sim/trading/requests says how many requests came, of each method, and of POST /v2/orders by
client_order_id (with when the first of each came, `arrived`), whatever became of them.

What a fault adds is not market data: it is neither in the ledger nor in the published counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.session import ERRORS

MOST = 100_000
"""The greatest count: what is skipped is kept for GET /sim/skipped."""

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "drop": {},
    "close": {"code": 1001},
    "half_frame": {},
    "outage": {"seconds": 10.0},
    "refuse_http": {"code": 429},
    "refuse_auth": {"code": 402},
    "hold": {"seconds": 90.0},
    "refuse_symbols": {"code": 405},
    "error": {"code": 500},
    "mute": {},
    "unmute": {},
    "delay": {"seconds": 5.0},
    "repeat": {},
    "truncate": {},
    "malformed": {},
    "huge": {},
    "reorder": {"count": 10},
    "skip": {},
    "status_http": {"code": 503},
    "answer_late": {"seconds": 10.0, "path": "/v2/orders", "method": "POST"},
    "answer_stalled": {"seconds": 10.0, "path": "/v2/orders", "method": "POST"},
    "answer_lost": {"path": "/v2/orders", "method": "POST"},
    "answer_http": {"code": 504, "path": "/v2/orders", "method": "POST"},
}
KINDS = tuple(_DEFAULTS)
DONE_ALL_THE_SAME = ("answer_late", "answer_stalled", "answer_lost", "answer_http")


@dataclass(frozen=True)
class Fault:
    """One demanded fault, checked; times in seconds, sizes in bytes."""

    kind: str
    code: int = 500
    count: int = 1
    seconds: float | None = None
    extra: bool = False
    close: bool = False
    message: Mapping[str, Any] | None = None
    symbols: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    accounts: frozenset[int] | None = None
    every: int = 1
    size: int = 1_200_000
    inside: bool = False
    window: int = 8
    seed: int = 1
    retry_after: int | None = None
    path: str | None = None
    method: str | None = None


def parse(body: object) -> Fault:
    """Check a request's body.

    Raises:
        ValueError: not an object, an unknown kind or field, or a field of the wrong type.
    """
    if not isinstance(body, dict) or body.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    given = dict(body)
    kind = given.pop("kind")
    if "frames" in given:
        given.setdefault("count", given["frames"])
        del given["frames"]
    if unknown := set(given) - set(_CHECKS):
        raise ValueError(f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
    fields = {**_DEFAULTS[kind], **{name: _CHECKS[name](name, value) for name, value in given.items()}}
    fault = Fault(kind, **fields)
    _check_code(fault)
    if fault.count == 0 and kind != "skip":
        raise ValueError("count (frames) is at least 1")
    return fault


def _check_code(fault: Fault) -> None:
    known: Mapping[str, Any] = {
        "error": ERRORS,
        "refuse_auth": ERRORS,
        "refuse_symbols": (400, 405),
        "refuse_http": range(400, 600),
        "status_http": range(400, 600),
        "answer_http": range(400, 600),
    }
    if fault.kind in known and fault.code not in known[fault.kind]:
        raise ValueError(f"no such error code: {fault.code}")


def _whole(least: int, most: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is a whole number from {least} to {most}")
        return value

    return check


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise ValueError(f"{name} is a number of seconds")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    return bool(value)


def _object(name: str, value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, dict | None):
        raise ValueError(f"{name} is an object")
    return value


def _names(name: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} is a list of texts")
    return frozenset(value)


def _numbers(name: str, value: Any) -> frozenset[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ValueError(f"{name} is a list of whole numbers")
    return frozenset(value)


def _path(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.startswith("/")):
        raise ValueError(f"{name} begins with /")
    return value


def _method(name: str, value: Any) -> str | None:
    if value is not None and value not in ("GET", "POST", "PATCH", "DELETE"):
        raise ValueError(f"{name} is GET, POST, PATCH or DELETE")
    return None if value is None else str(value)


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "code": _whole(100, 4999),
    "count": _whole(0, MOST),
    "seconds": _seconds,
    "extra": _flag,
    "close": _flag,
    "message": _object,
    "symbols": _names,
    "channels": _names,
    "accounts": _numbers,
    "every": _whole(1, MOST),
    "size": _whole(1, 1 << 26),
    "inside": _flag,
    "window": _whole(2, 10_000),
    "seed": _whole(0, 1 << 62),
    "retry_after": _whole(0, 86_400),
    "path": _path,
    "method": _method,
}
