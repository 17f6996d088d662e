"""One market-data socket: what it wants of what is published, in its encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import orjson

from simulator import rfc3339
from simulator.faults import Fault
from simulator.interest import covers
from simulator.market import Frame
from simulator.outgoing import Outgoing
from simulator.session import Reply, Session, error
from simulator.wire import Message, Stream, frame


class Client(Outgoing):
    """A socket of one feed."""

    def __init__(self, feed: str, session: Session, limit: int) -> None:
        super().__init__(limit, "msgpack" if session.msgpack else "json")
        self.feed = feed
        self.session = session
        self._gets: dict[Stream, bool] = {}

    def reply(self, replies: Sequence[Reply]) -> None:
        """Queue control messages, each an array of one."""
        for message in replies:
            self.say(msgpack.packb([message]) if self.session.msgpack else orjson.dumps([message]))

    def offer(self, frames: Sequence[Frame], *, whole: bool) -> None:
        """Queue data frames; `whole`: every message in them is for this client."""
        if self.deaf:
            return
        for published in frames:
            messages = published.messages if whole else [m for m in published.messages if self._wants(m[2])]
            if not messages:
                continue
            if not self.session.msgpack:
                data = json_frame(messages)
            elif whole:
                data = published.data
            else:
                data = frame([message[3] for message in messages])
            self.send(data)
        if self.overflows():
            self.reply([error(407)])
            self.finish(1008)

    def inflict(self, fault: Fault) -> bool:
        """Do a fault to this socket; whether it is a fault of sockets."""
        if super().inflict(fault):
            return True
        if fault.kind == "error":
            self.reply([error(fault.code)])
            if fault.close:
                self.finish(1008)
        return fault.kind == "error"

    def changed(self) -> None:
        """The subscriptions changed."""
        self._gets.clear()

    def _wants(self, stream: Stream) -> bool:
        wants = self._gets.get(stream)
        if wants is None:
            wants = covers(self.session.subscriptions, stream.channel, stream.symbol)
            self._gets[stream] = wants
        return wants


def json_frame(messages: Sequence[Message]) -> bytes:
    """Published messages as a JSON array, times in RFC 3339."""
    return orjson.dumps([msgpack.unpackb(message[3]) for message in messages], default=_json_time)


def shown(message: Message) -> Any:
    """A published message as a client that speaks JSON gets it."""
    return orjson.loads(json_frame([message]))[0]


def _json_time(value: Any) -> str:
    if isinstance(value, msgpack.Timestamp):
        return rfc3339.show(value.to_unix_nano())
    raise TypeError
