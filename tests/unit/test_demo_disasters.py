"""Disasters by keys: a wrong key must do nothing, and the terminal must be as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios

import pytest
from aiohttp import web

from console.commands.runs import keys
from console.commands.runs.disasters import DISASTERS, Disasters, parse
from simulator import faults
from tidewire.errors import ConfigError, TidewireError


def _disasters(**changes: object) -> Disasters:
    values = {"simulator_url": "http://127.0.0.1:1", "kill_kafka": None, "quit_": lambda: None, **changes}
    return Disasters(**values)  # type: ignore[arg-type]


def test_what_the_keys_ask_for_is_known_to_the_simulator() -> None:
    """A fault that the simulator refuses would be acknowledged by an error only when somebody presses."""
    for disaster in DISASTERS.values():
        body = {name: value for name, value in disaster.fault.items() if name != "venue"}
        if body:
            assert faults.parse(body).kind == body["kind"]


def test_kafka_is_killed_only_where_it_is_the_runs_own() -> None:
    """Somebody else's Kafka is not for breaking."""
    killed: list[int] = []
    assert "Kafka" not in _disasters().keys
    assert "k kill Kafka" in _disasters(kill_kafka=lambda: killed.append(1)).keys

    async def run() -> tuple[str, ...]:
        foreign, own = _disasters(), _disasters(kill_kafka=lambda: killed.append(1))
        for each in (foreign, own):
            each.press("k")
            each.press("x")
        async with asyncio.timeout(5):
            while not own.said:
                await asyncio.sleep(0.01)
        return (*foreign.said, *own.said)

    (said,) = asyncio.run(run())
    assert killed == [1]
    assert "Kafka was killed" in said


def test_a_simulator_that_does_not_answer_is_said() -> None:
    """It may be restarting; the demo must go on."""

    async def run() -> str:
        disasters = _disasters()
        disasters.press("c")
        async with asyncio.timeout(5):
            while not disasters.said:
                await asyncio.sleep(0.01)
        return disasters.said[0]

    assert "does not answer" in asyncio.run(run())


def test_the_kill_switch_is_turned_once_a_press_and_says_so() -> None:
    """Two quick presses must not turn it on twice; one that fails must not end the demo."""
    turns: list[str] = []

    async def turn() -> str:
        turns.append("on" if len(turns) % 2 == 0 else "off")
        if len(turns) == 3:
            raise TidewireError("the file cannot be written")
        return f"the kill switch is {turns[-1]}"

    async def run() -> list[str]:
        disasters = _disasters(kill_switch=turn)
        for _ in range(3):
            disasters.press("x")
        async with asyncio.timeout(5):
            while len(disasters.said) < 3:
                await asyncio.sleep(0.01)
        return [text.partition("  ")[2] for text in disasters.said]

    assert "x kill switch" not in _disasters().keys
    said = asyncio.run(run())
    assert said == [
        "the kill switch is on", "the kill switch is off", "kill switch: the file cannot be written",
    ]  # fmt: skip


def test_a_key_that_hit_nothing_says_so() -> None:
    """Who presses before the socket is open would wait for a gap that never comes."""

    async def run(hit: int) -> list[str]:
        async def fault(_: web.Request) -> web.Response:
            return web.json_response({"kind": "drop", "sockets": hit})

        app = web.Application()
        app.router.add_post("/sim/faults", fault)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            disasters = _disasters(simulator_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
            said: list[str] = []
            for key in "cmts":
                before = disasters.said
                disasters.press(key)
                async with asyncio.timeout(5):
                    while disasters.said == before:
                        await asyncio.sleep(0.01)
                said.append(disasters.said[-1].partition("  ")[2])
            return said
        finally:
            await runner.cleanup()

    none, one = asyncio.run(run(0)), asyncio.run(run(1))
    assert none[:3] == [DISASTERS[key].unhurt for key in "cmt"]
    assert none[3] == DISASTERS["s"].done, "trades are dropped from the next socket, too"
    assert one == [DISASTERS[key].done for key in "cmts"]


def test_q_ends_the_run() -> None:
    """As Ctrl-C does."""
    ended: list[int] = []
    _disasters(quit_=lambda: ended.append(1)).press("q")
    assert ended == [1]


def test_disasters_by_the_second() -> None:
    """A script must not have to guess which of its words was ignored."""
    assert parse("") == []
    assert parse("kafka@40, cut@2.5") == [(2.5, "c"), (40.0, "k")]
    for wrong in ("cut", "flood@3", "cut@soon", "cut@-1"):
        with pytest.raises(ConfigError, match="--disaster"):
            parse(wrong)


@pytest.mark.parametrize("ends_with", [None, RuntimeError, asyncio.CancelledError])
def test_keys_are_read_singly_and_the_terminal_is_restored(
    monkeypatch: pytest.MonkeyPatch, ends_with: type[BaseException] | None
) -> None:
    """A shell that no longer shows what is typed is what people remember of a demo."""
    mine, theirs = pty.openpty()
    taken: list[str] = []

    async def run() -> None:
        with keys.pressed(taken.append):
            assert not termios.tcgetattr(theirs)[3] & termios.ICANON
            os.write(mine, b"cm\x1b[A")
            os.write(mine, b"q")
            async with asyncio.timeout(5):
                while len(taken) < 2:
                    await asyncio.sleep(0.01)
            if ends_with is not None:
                raise ends_with

    with os.fdopen(theirs, "rb", buffering=0, closefd=True) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(theirs)
        if ends_with is None:
            asyncio.run(run())
        else:
            with pytest.raises(ends_with):
                asyncio.run(run())
        assert termios.tcgetattr(theirs) == before
    os.close(mine)
    assert taken[:2] == ["c", "m"]


def test_there_are_no_keys_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI stdin is a pipe, or closed: nothing may be read from it, nor fail."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not keys.is_ours()
    assert not keys.is_ours()  # closed
