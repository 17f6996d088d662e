"""How a fault changes the data frames of one socket. Pure, but for what `Reorder` holds back.

A frame is a msgpack or a JSON array of messages; on the trading socket it is one JSON object.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import msgpack
import orjson

from simulator.faults import Fault

Form = Literal["msgpack", "json", "single"]

_BROKEN_TRADE = {"T": "t", "S": "BROKEN", "i": "not a number"}
_UNKNOWN = "unheard_of"


class Spoil(ABC):
    """What becomes of the frames of one socket."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    @abstractmethod
    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        """The frames sent instead."""

    def held(self) -> list[bytes]:
        """Take out what is still held back."""
        return []


class _Repeat(Spoil):
    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        return [frame, frame]


class _Truncate(Spoil):
    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        return [frame[: len(frame) // 2], *([frame] if self.fault.extra else [])]


class _Malformed(Spoil):
    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        return _insert(frame, self.fault.message or _BROKEN_TRADE, form)


class _Huge(Spoil):
    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        padding = "x" * self.fault.size
        if not self.fault.inside:
            kind = "stream" if form == "single" else "T"
            return _insert(frame, {kind: _UNKNOWN, "padding": padding}, form)
        first, *rest = split(frame, form)
        return join([{**first, "padding": padding}, *rest], form)


class _Reorder(Spoil):
    """Gathers messages until a window is full, then lets them go in another order."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self._window = fault.window
        self._left = fault.count
        self._random = random.Random(fault.seed)
        self._kept: list[Any] = []
        self._form: Form = "msgpack"

    def __call__(self, frame: bytes, form: Form) -> list[bytes]:
        self._form = form
        self._left -= 1
        self._kept += split(frame, form)
        out: list[Any] = []
        while len(self._kept) >= self._window:
            out += self._shuffled(self._window)
        if not self._left:
            out += self._shuffled(len(self._kept))
        return join(out, form)

    def held(self) -> list[bytes]:
        return join(self._shuffled(len(self._kept)), self._form)

    def _shuffled(self, count: int) -> list[Any]:
        some, self._kept = self._kept[:count], self._kept[count:]
        self._random.shuffle(some)
        return some


_SPOILS: dict[str, type[Spoil]] = {
    "repeat": _Repeat,
    "truncate": _Truncate,
    "malformed": _Malformed,
    "huge": _Huge,
    "reorder": _Reorder,
}


def spoil_of(fault: Fault) -> Spoil | None:
    """How a fault changes a data frame; None when it does not. A new one for every socket."""
    kind = _SPOILS.get(fault.kind)
    return None if kind is None else kind(fault)


def split(frame: bytes, form: Form) -> list[Any]:
    """The messages of a frame."""
    if form == "msgpack":
        return list(msgpack.unpackb(frame))
    found = orjson.loads(frame)
    return [found] if form == "single" else list(found)


def join(messages: Sequence[Any], form: Form) -> list[bytes]:
    """The messages as frames: one, or where a frame is one message as many; none without messages."""
    if form == "single":
        return [orjson.dumps(message) for message in messages]
    if not messages:
        return []
    return [msgpack.packb(messages) if form == "msgpack" else orjson.dumps(messages)]


def _insert(frame: bytes, message: Any, form: Form) -> list[bytes]:
    """The frame with one more message in its middle."""
    messages = split(frame, form)
    messages.insert(len(messages) // 2, message)
    return join(messages, form)
