"""`tidewire replay`: the log folded anew, beside the running services and without touching them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table as Shown

from console.commands.backfill_request import moment
from console.commands.replay_exits import exits
from console.commands.replay_output import WIDE, bar, ready, say
from console.commands.topic_names import resolve
from replay import comparison, stocks
from replay.comparison import Comparison
from replay.fold import Component, Table, fold
from replay.log import read, spans
from schemas.catalogue import Catalogue
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Fold the log anew, from its beginning: nothing is ordered, running services are not touched.",
)
app.command("exits")(exits)

Symbols = Annotated[list[str] | None, typer.Argument(metavar="[SYMBOL]...", help="All, unless named.")]
_LISTED_WORDS = 6
_MORE = ("high", "low", "trades", "quotes")


@app.command()
def features(
    symbols: Symbols = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Only this topic, e.g. stocks.trades; may be repeated.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only what was received before: 2026-11-20T14:30, or 2h (ago).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a symbol and line.")] = False,
) -> None:
    """Fold trades and quotes, and show each symbol's features as they were at the end.

    Examples:

      tidewire replay features

      tidewire replay features AAPL MSFT --until 2026-11-20T14:30

      tidewire replay features --topic stocks.trades --json
    """
    settings, catalogue, codec = ready()
    until_ns = None if until is None else moment("--until", until, now_ns())
    chosen = _chosen(stocks.components(catalogue, codec), topic or [], catalogue)
    started = time.monotonic()
    table = uvloop.run(_fold(settings, chosen, until_ns))
    found = list(stocks.features(table, _upper(symbols)))
    if as_json:
        for record in found:
            print(json.dumps(record))
    else:
        console = Console()
        if not console.is_terminal:  # a file or a pipe has no width
            console.width = WIDE
        console.print(_features(found, console.width))
    say(_account(table, time.monotonic() - started))
    _tell_refused(table)


@app.command()
def check(
    symbols: Symbols = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare the processor's table with a fold of the log; exit code 1 where they differ.

    It may run beside the processor: each symbol is folded up to where its row says that it is.

    Examples:

      tidewire replay check

      tidewire replay check AAPL --json
    """
    settings, catalogue, codec = ready()
    started = time.monotonic()
    with bar("folding") as (begun, told):
        found = uvloop.run(comparison.compare(settings, catalogue, codec, _upper(symbols), begun, told))
    if as_json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        for line in _verdict(found):
            print(line)
        say(_account(found.table, time.monotonic() - started))
    raise typer.Exit(0 if found.same else 1)


def _upper(symbols: Sequence[str] | None) -> frozenset[str]:
    return frozenset(symbol.strip().upper() for symbol in symbols or ())


def _chosen(
    components: dict[str, Component], asked: Sequence[str], catalogue: Catalogue
) -> dict[str, Component]:
    wanted = [resolve(name, catalogue, components) for name in asked]
    if odd := [name for name in wanted if name not in components]:
        raise ConfigError([f"--topic {name}: features are folded of {', '.join(components)}" for name in odd])
    return {name: component for name, component in components.items() if not wanted or name in wanted}


async def _fold(settings: Settings, components: dict[str, Component], until_ns: int | None) -> Table:
    wanted = await spans(settings, components, until_ns)
    with bar("folding") as (begun, told):
        begun(sum(span.records for span in wanted.values()))
        return await fold(read(settings, wanted), components, stocks.WIDTH, told=told)


def _features(records: Sequence[dict[str, Any]], width: int) -> Shown:
    """A table that fits a terminal of 80 columns, with more columns where there is room."""
    wide = width >= WIDE
    names = ["symbol", "last", "bid", "ask", "vwap", "volume", *(_MORE if wide else ()), "time (UTC)"]
    shown = Shown(box=box.SIMPLE_HEAD, padding=(0, 1 if wide else 0), pad_edge=False)
    for name in names:
        justify: Literal["left", "right"] = "left" if name in ("symbol", "time (UTC)") else "right"
        shown.add_column(name, justify=justify, no_wrap=True)
    for r in records:
        prices = [_price(r[name]) for name in ("last", "bid", "ask", "vwap")]
        more = [_price(r["high"]), _price(r["low"]), f"{r['trades_folded']:,}", f"{r['quotes_folded']:,}"]
        shown.add_row(r["symbol"], *prices, f"{r['volume']:,}", *(more if wide else ()), _time(r["ts"], wide))
    return shown


def _price(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if value >= 1 else f"{value:.4f}"


def _time(ts: int, wide: bool) -> str:
    """Event time, to the second."""
    return f"{datetime.fromtimestamp(ts // 10**9, UTC):{'%Y-%m-%d' if wide else '%m-%d'} %H:%M:%S}"


def _account(table: Table, seconds: float) -> str:
    parts = [f"{table.read:,} records read in {seconds:.1f} s", f"{table.applied:,} folded"]
    if table.left_out:
        parts.append(f"{table.left_out:,} newer than the table")
    if table.stale:
        parts.append(f"{table.stale:,} of a stale owner")
    if table.refused_count:
        parts.append(f"{table.refused_count:,} refused")
    return ", ".join(parts)


def _tell_refused(table: Table) -> None:
    for topic, partition, letter in table.refused[:_LISTED_WORDS]:
        say(f"refused: {topic} partition {partition} offset {letter.offset}: {letter.reason}")
    if (more := table.refused_count - _LISTED_WORDS) > 0:
        say(f"and {more:,} more")


def _verdict(found: Comparison) -> Iterator[str]:
    for symbol, words in found.differing.items():
        more = f" and {len(words) - _LISTED_WORDS} more" if len(words) > _LISTED_WORDS else ""
        yield f"{symbol}: differs in {', '.join(words[:_LISTED_WORDS])}{more}"
    for symbol, count in found.missing.items():
        yield f"{symbol}: {count:,} records were committed but are not in its row"
    if found.shortened and not found.same:
        yield f"sums may differ because Kafka has deleted the oldest records of {', '.join(found.shortened)}"
    wrong = len(found.differing.keys() | found.missing.keys())
    verdict = "the table is what the log gives" if found.same else f"{wrong:,} symbols differ"
    yield f"{verdict}: {found.equal:,} symbols are equal to the byte"


def _as_json(found: Comparison) -> dict[str, Any]:
    return {
        "same": found.same,
        "equal": found.equal,
        "differing": found.differing,
        "missing": dict(found.missing),
        "shortened": found.shortened,
        "read": found.table.read,
        "folded": found.table.applied,
        "refused": found.table.refused_count,
        "stale": found.table.stale,
    }
