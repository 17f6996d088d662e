"""The live screen: if it does not fit, or shows the wrong number, a user sees a healthy line that is not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from console.screen import layout, live
from console.screen.layout import View
from console.screen.state import Observation, Process, Simulator, Symbol

VIEW = View("tidewire demo", "synthetic market", 83.0)
NS = 1_000_000_000


def symbol(name: str = "AAPL", **changes: object) -> Symbol:
    values: dict[str, object] = {
        "name": name, "ts": 1_381_152_600 * NS, "last": 187.25, "bid": 187.24, "ask": 187.26, "spread": 0.02,
        "vwap": 187.1, "volume": 1_234_567, "trades": 4_321, "high": 188.0, "low": 186.5,
        "trades_folded": 4_321, "quotes_folded": 9_876,
    }  # fmt: skip
    return Symbol(**{**values, **changes})  # type: ignore[arg-type]


def observed(count: int = 3, **changes: object) -> Observation:
    names = ("kafka", "postgres", "simulator", "producer", "processor", "sink")
    values: dict[str, object] = {
        "at": 100.0,
        "ends": {("trades", 0): 5_000, ("trades", 1): 3_642, ("quotes", 0): 19_752, ("bars", 0): 12},
        "stored": {("trades", 0): 5_000, ("trades", 1): 3_600, ("quotes", 0): 19_752, ("bars", 0): 12},
        "committed": {("trades", 0): 5_000, ("trades", 1): 3_642, ("quotes", 0): 19_752},
        "symbols": tuple(symbol(f"S{n:02}", volume=1_000 + n) for n in range(count)),
        "simulator": Simulator("running", {"trades": 8_700, "quotes": 19_752, "bars": 12}),
        "processes": tuple(Process(name, "running", uptime_seconds=83) for name in names),
        "connection": "CONNECTED",
        "rates": {"trades": 1_234.4, "quotes": 20.0, "bars": 0.0},
    }
    return Observation(**{**values, **changes})  # type: ignore[arg-type]


def drawn(seen: Observation, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True, force_terminal=True)
    console.print(layout.screen(VIEW, seen, height, width))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
@pytest.mark.parametrize("symbols", [0, 1, 10, 500])
def test_it_fits_the_terminal(width: int, height: int, symbols: int) -> None:
    """One line too many and the terminal scrolls four times a second."""
    seen = observed(symbols, processes=(*observed().processes, Process("processor-2", "waiting", restarts=3)))
    lines = drawn(seen, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "Ctrl-C stops everything" in lines[-1]


def test_every_symbol_that_fits_is_shown_and_the_busiest_first() -> None:
    """With a whole market subscribed, the rows must not go to symbols that never trade."""
    shown = [line.split()[0] for line in drawn(observed(500)) if line.strip().startswith("S")]
    assert shown == sorted(shown)
    assert "S499" in shown
    assert "S00" not in shown
    assert len(shown) >= 8


def test_the_counters_are_those_of_the_line() -> None:
    """The completeness counters are the point of the screen: published, topic, folded, stored, behind."""
    seen = observed(1, symbols=(symbol(trades_folded=8_642, quotes_folded=19_752),))
    text = {line.split()[0]: line.split()[1:] for line in drawn(seen) if line.split()}
    assert text["trades"] == ["1,234", "8,700", "8,642", "8,642", "8,600", "100"]
    assert text["quotes"] == ["20", "19,752", "19,752", "19,752", "19,752", "0"]
    assert text["bars"] == ["0", "12", "12", "-", "12", "0"]


def test_trouble_is_visible() -> None:
    """A service that restarts, waits for Kafka or lost its connection must not look like a healthy one."""
    processes = (
        Process("kafka", "waiting", restarts=1),
        Process("producer", "running", ready=False, reason="Kafka does not answer"),
        Process("sink", "running", restarts=2, uptime_seconds=3),
    )
    text = "\n".join(drawn(observed(processes=processes, connection="DISCONNECTED"), width=120))
    for words in (
        "kafka      ",
        "starting again",
        "Kafka does not answer",
        "0:03 restarted 2x",
        "DISCONNECTED",
    ):
        assert words in text


def test_before_the_first_record_it_says_that_it_waits() -> None:
    """An empty table would look like a broken one."""
    text = "\n".join(drawn(Observation(at=0.0)))
    assert "waiting for the first features" in text


def test_without_a_simulator_nothing_is_said_to_be_published() -> None:
    """Against Alpaca nobody knows what was sent; a zero would read as a loss."""
    line = next(line for line in drawn(observed(simulator=None)) if line.split()[:1] == ["trades"])
    assert line.split()[2] == "-"


def test_a_line_of_text_says_the_same() -> None:
    """In CI there is no terminal; the log must show progress and who is in trouble."""
    text = live.line(observed(processes=(Process("sink", "waiting"),)))
    assert "trades: published 8,700, topic 8,642" in text
    assert "stored 8,600" in text
    assert "sink: starting again" in text


def test_a_hostile_symbol_does_not_change_the_screen() -> None:
    """Symbols come from outside; markup in them must stay text."""
    assert "[red]X" in "\n".join(drawn(observed(symbols=(symbol("[red]X"),))))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1234.5, "1,234.50"), (0.1234, "0.1234"), (0.02, "0.02"), (10.03 - 10.01, "0.02")],
)
def test_prices_read_as_people_write_them(value: float | None, text: str) -> None:
    """A price of a penny stock rounded to cents is wrong."""
    assert layout.price(value) == text
