"""What a fault puts before a venue's door: handshakes reset or refused, sign-ins and symbols refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from aiohttp import web

from simulator.faults import DONE_ALL_THE_SAME, Fault
from simulator.outgoing import reset

HELD = 406


class Door:
    """The door of one venue; open unless a fault says otherwise. The clock is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._handshakes: deque[Fault] = deque()
        self._sign_ins: deque[int] = deque()
        self._closed_until = 0.0
        self._held_until = 0.0
        self._symbols: frozenset[str] = frozenset()
        self._symbols_code = 405

    def inflict(self, fault: Fault) -> bool:
        """Do what a fault does to the door; whether it is such a fault."""
        if fault.kind == "outage":
            self._closed_until = self._clock() + (fault.seconds or 0.0)
        elif fault.kind == "hold":
            self._held_until = self._clock() + (fault.seconds or 0.0)
        elif fault.kind == "refuse_http":
            self._handshakes.extend([fault] * fault.count)
        elif fault.kind == "refuse_auth":
            self._sign_ins.extend([fault.code] * fault.count)
        elif fault.kind == "refuse_symbols":
            self._symbols, self._symbols_code = fault.symbols or frozenset(), fault.code
        else:
            return False
        return True

    def handshake(self, request: web.Request) -> web.Response | None:
        """Instead of a WebSocket: an answer of HTTP, or one that nobody gets; None lets the client in."""
        if self._closed_until > self._clock():
            reset(request.transport)
            return web.Response(status=503)
        return refusal(self._handshakes.popleft()) if self._handshakes else None

    def sign_in(self) -> int | None:
        """Why the next sign-in is refused; None when it is not."""
        if self._sign_ins:
            return self._sign_ins.popleft()
        return HELD if self._held_until > self._clock() else None

    def subscribe(self, symbols: Iterable[str]) -> int | None:
        """Why a subscribe that names these symbols is refused; None when it is not."""
        return None if self._symbols.isdisjoint(symbols) else self._symbols_code


def refusal(fault: Fault) -> web.Response:
    """An answer with a fault's HTTP status, and Retry-After (seconds) if it has one."""
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    text = "too many requests." if fault.code == 429 else "not now."
    body = {"message": text} if fault.message is None else dict(fault.message)
    return web.json_response(body, status=fault.code, headers=headers)


class RestFaults:
    """HTTP statuses that REST is to answer with, and what becomes of answers; costs nothing without any."""

    def __init__(self) -> None:
        self._rules: list[tuple[tuple[str, ...], Fault, int]] = []
        self._after: list[tuple[Fault, int]] = []

    def add(self, prefixes: tuple[str, ...], fault: Fault) -> None:
        """The next requests to paths that begin with one of these."""
        if fault.kind in DONE_ALL_THE_SAME:
            self._after.append((fault, fault.count * fault.every))
        else:
            self._rules.append((prefixes, fault, fault.count))

    def after(self, path: str, method: str, account: int) -> Fault | None:
        """What is to become of the answer to a request that is done all the same; None: it is sent."""
        for at, (fault, left) in enumerate(self._after):
            theirs = fault.accounts is None or account in fault.accounts
            if theirs and path.startswith(fault.path or "") and fault.method in (None, method):
                self._after[at : at + 1] = [(fault, left - 1)] if left > 1 else []
                return fault if (left - 1) % fault.every == 0 else None
        return None

    def answer(self, path: str, method: str = "GET", account: int = 0) -> web.Response | None:
        """What a request gets instead of what it asked for; None: what it asked for."""
        fault = self.instead(path, method, account)
        return None if fault is None else refusal(fault)

    def instead(self, path: str, method: str = "GET", account: int = 0) -> Fault | None:
        """The fault that a request gets instead of what it asked for; None: what it asked for."""
        for at, (prefixes, fault, left) in enumerate(self._rules):
            theirs = fault.accounts is None or account in fault.accounts
            if theirs and path.startswith(prefixes) and fault.method in (None, method):
                self._rules[at : at + 1] = [(prefixes, fault, left - 1)] if left > 1 else []
                return fault
        return None
