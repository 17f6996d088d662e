"""`tidewire exits`: set, list and remove exit rules, see what became of them, and explain a trigger."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands import exit_log, exit_options, exit_rows
from console.commands.readable import time_text
from schemas.catalogue import EXIT_EVENTS, EXIT_RULES, EXIT_WATCH, PORTFOLIO_POSITIONS
from schemas.codec import load_codec
from schemas.exit_rules import RuleSpec, rule_record
from tidewire import accounts, config
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError, IncompleteError, TidewireError
from tidewire.stack import fill_in
from tidewire.supervision.run_files import of_the_demo
from verify import exit_watches

if TYPE_CHECKING:
    from console.commands.exit_explain import Told

_EXAMPLES = "\n\n".join(
    (
        "Examples:",
        "  tidewire exits set paper-1 AAPL --stop-loss 5% --take-profit 195.50",
        "  tidewire exits set paper-1 AAPL --trailing 2% --reference mid --rule trail",
        "  tidewire exits set paper-1 BTC/USD --bracket 4%/8% --time-stop 2h",
        "  tidewire exits set paper-1 AAPL261218C00200000 --on AAPL --stop-loss 180",
        "  tidewire exits set paper-1 TSLA --stop-loss 3% --limit-offset 0.5% --extended-hours",
        "  tidewire exits remove paper-1 AAPL --rule trail",
        "  tidewire exits explain paper-1:AAPL:3:0",
        "  tidewire exits explain --all",
    )
)

app = typer.Typer(
    no_args_is_help=True,
    help="Exit rules of positions: set, list, remove; what happened to them; why one fired.",
    epilog=_EXAMPLES,
)

Json_ = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Account_ = Annotated[str, typer.Argument(metavar="ACCOUNT", help="As in accounts.toml.")]
Symbol_ = Annotated[str, typer.Argument(metavar="SYMBOL", help="Ticker, pair (BTC/USD) or OCC symbol.")]


@app.command("set", epilog=_EXAMPLES)
def set_(
    account: Account_,
    symbol: Symbol_,
    stop_loss: Annotated[
        str | None, typer.Option(help="Percent of the entry price (5%) or a price (180).")
    ] = None,
    take_profit: Annotated[
        str | None, typer.Option(help="Percent of the entry price (10%) or a price (195.50).")
    ] = None,
    trailing: Annotated[
        str | None, typer.Option(help="Behind the best price: percent (2%) or USD (1.50).")
    ] = None,
    time_stop: Annotated[
        str | None, typer.Option(help="After the opening (2h), or a moment (2026-11-22T15:30:00-05:00).")
    ] = None,
    end_of_day: Annotated[str | None, typer.Option(help="So long before the close (5m).")] = None,
    bracket: Annotated[
        str | None, typer.Option(help="Stop and target in one, as in 5%/10% or 180/210.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="The rule's name; the default is its kind.")] = None,
    on: Annotated[str | None, typer.Option(help="Watch the price of this symbol (an underlying).")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Which price: last, bid, ask, mid, side (the default).")
    ] = None,
    limit_offset: Annotated[
        str | None, typer.Option(help="A limit order so far beyond the price (0.5%), not a market order.")
    ] = None,
    extended_hours: Annotated[
        bool, typer.Option("--extended-hours", help="Also outside the regular session (limit orders only).")
    ] = False,
    foreign_orders: Annotated[
        str | None, typer.Option(help="Others' open orders on the shares: cancel (default), respect, adopt.")
    ] = None,
    max_quote_age: Annotated[
        float | None, typer.Option(help="Hold on quotes older than this, seconds; default: by its rhythm.")
    ] = None,
    max_hold: Annotated[
        int | None, typer.Option(help="Alert when a gate holds an exit for longer, seconds (60).")
    ] = None,
    as_json: Json_ = False,
) -> None:
    """Set one or more rules on a position, now or before it is opened; each takes the place of its name's."""
    settings = _settings()
    _known(settings, account)
    kinds = {
        "stop_loss": stop_loss,
        "take_profit": take_profit,
        "trailing_stop": trailing,
        "time_stop": time_stop,
        "end_of_day": end_of_day,
    }
    options = on, reference, limit_offset, extended_hours, foreign_orders, max_quote_age, max_hold
    named = exit_options.specs(kinds, bracket, rule, exit_options.shared(*options))
    held = asyncio.run(_set(settings, account, symbol.upper(), named))
    if not held:
        _warn(f"{account} holds no {symbol.upper()} now: the rules wait for a position")
    if as_json:
        body = [{"rule": name, "spec": json.loads(spec.canonical())} for name, spec in named]
        print(json.dumps({"account": account, "symbol": symbol.upper(), "set": body, "held": held}, indent=1))
        return
    for name, spec in named:
        print(f"set {account} {symbol.upper()} {name}: {exit_options.in_words(spec)}")


async def _set(settings: Settings, account: str, symbol: str, named: list[tuple[str, RuleSpec]]) -> bool:
    codec, now, who = load_codec(settings), now_ns(), exit_log.set_by()
    rules = [rule_record(account, symbol, name, spec, who, now) for name, spec in named]
    await exit_log.write(settings, codec, rules)
    positions = (await exit_log.newest(settings, codec, [PORTFOLIO_POSITIONS]))[PORTFOLIO_POSITIONS]
    held = positions.get(f"{account}:{symbol}")
    return held is not None and bool(held["quantity"])


@app.command("list")
def list_(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]", help="All, unless named.")] = None,
    symbol: Annotated[str | None, typer.Argument(metavar="[SYMBOL]")] = None,
    as_json: Json_ = False,
) -> None:
    """Show the rules in force, those by default too, and what each of them watches now."""
    settings = _settings()
    owners = accounts.load(settings)
    if account is not None:
        _known(settings, account)
    found = asyncio.run(exit_log.newest(settings, load_codec(settings), [EXIT_RULES, EXIT_WATCH]))
    rows = exit_rows.rows(found[EXIT_RULES].values(), found[EXIT_WATCH].values(), owners)
    wanted = symbol.upper() if symbol is not None else None
    rows = [r for r in rows if account in (None, r.account) and wanted in (None, r.symbol)]
    if as_json:
        print(json.dumps([row.to_json() for row in rows], indent=1))
    elif not rows:
        print("no exit rules; `tidewire exits set --help` shows how to set one")
    else:
        _table(exit_rows.HEAD, [row.cells() for row in rows])


@app.command()
def remove(
    account: Account_,
    symbol: Symbol_,
    rule: Annotated[str | None, typer.Option(help="Only this one; else every rule of the symbol.")] = None,
    as_json: Json_ = False,
) -> None:
    """Remove rules of a symbol, a default one too (for this symbol only)."""
    settings = _settings()
    _known(settings, account)
    removed = asyncio.run(_remove(settings, account, symbol.upper(), rule))
    if as_json:
        print(json.dumps({"account": account, "symbol": symbol.upper(), "removed": removed}, indent=1))
    for name in [] if as_json else removed:
        print(f"removed {account} {symbol.upper()} {name}")


async def _remove(settings: Settings, account: str, symbol: str, rule: str | None) -> list[str]:
    codec = load_codec(settings)
    found = await exit_log.newest(settings, codec, [EXIT_RULES, EXIT_WATCH])
    owners = accounts.load(settings)
    rows = exit_rows.rows(found[EXIT_RULES].values(), found[EXIT_WATCH].values(), owners)
    here = {row.rule: row for row in rows if (row.account, row.symbol) == (account, symbol)}
    if rule is not None and rule not in here:
        there = ", ".join(here) or "none"
        raise ConfigError([f"no rule {rule} on {symbol} of {account} (there are: {there})"])
    if not here:
        raise ConfigError([f"no rules on {symbol} of {account}"])
    names = list(here) if rule is None else [rule]
    now, who = now_ns(), exit_log.set_by()
    gone = [rule_record(account, symbol, name, here[name].spec, who, now, active=False) for name in names]
    await exit_log.write(settings, codec, gone)
    return names


@app.command()
def events(
    account: Annotated[str | None, typer.Argument(metavar="[ACCOUNT]")] = None,
    symbol: Annotated[str | None, typer.Argument(metavar="[SYMBOL]")] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
    as_json: Json_ = False,
) -> None:
    """Show the last turns of rules: armed, held by a gate and why, released, rescaled, triggered, alerts."""
    settings = _settings()
    count = last if account is None else 10_000
    found = asyncio.run(exit_log.last(settings, load_codec(settings), EXIT_EVENTS, count))
    wanted = symbol.upper() if symbol is not None else None
    found = [e for e in found if account in (None, e["account"]) and wanted in (None, e["symbol"])][-last:]
    if as_json:
        print(json.dumps([exit_rows.plain(event) for event in found], indent=1))
        return
    head = ("time (UTC)", "account", "symbol", "rule", "event", "gate", "price", "threshold", "reason")
    cells = [
        [
            *(time_text(e["ts"]), e["account"], e["symbol"], e["rule"], e["event"], e["gate"] or "-"),
            *(exit_rows.money(e["price"]), exit_rows.money(e["threshold"]), e["reason"]),
        ]
        for e in found
    ]
    _table(head, cells) if cells else print("no events yet")


@app.command()
def check(as_json: Json_ = False) -> None:
    """Compare rules and open positions with what is watched; exit code 0 only if they agree."""
    settings = _settings()
    topics = [PORTFOLIO_POSITIONS, EXIT_RULES, EXIT_WATCH]
    found = asyncio.run(exit_log.newest(settings, load_codec(settings), topics))
    positions, rules, watches = (found[topic].values() for topic in topics)
    wrong = exit_watches.differences(positions, rules, watches, accounts.load(settings))
    watched = sum(watch["active"] for watch in watches)
    if as_json:
        print(json.dumps({"watched": watched, "wrong": wrong}, indent=1))
    if wrong:
        raise IncompleteError("\n".join(["what is watched is not what should be:", *wrong]))
    if not as_json:
        print(f"in order: {watched} rules of open positions are watched, and nothing else is")


@app.command()
def explain(
    trigger: Annotated[
        str | None, typer.Argument(metavar="TRIGGER", help="Its id, as in paper-1:AAPL:3:0.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every trigger of the log, a line each.")] = False,
    as_json: Json_ = False,
) -> None:
    """Evaluate a trigger again from its named inputs and show why it fired; exit code 1: it would not."""
    from console.commands import exit_explain  # brings the exits' evaluation: not needed by the other verbs

    if every == (trigger is not None):
        raise typer.BadParameter("name one trigger, or all of them by --all")
    settings = _settings()
    if trigger is None:
        _explain_all(asyncio.run(exit_explain.every(settings, load_codec(settings))), as_json)
        return
    told = asyncio.run(exit_explain.explain(settings, load_codec(settings), trigger))
    if as_json:
        print(json.dumps(told.to_json(), indent=1))
    else:
        exit_explain.show(told, Console())
    told.judge()


def _explain_all(found: list[Told], as_json: bool) -> None:
    if as_json:
        print(json.dumps([told.to_json() for told in found], indent=1))
    else:
        rows = [[*(t.trigger[n] for n in ("trigger_id", "rule", "kind")), t.verdict] for t in found]
        _table(("trigger", "rule", "kind", "evaluated again"), rows) if rows else print("no triggers yet")
    if wrong := [told.trigger["trigger_id"] for told in found if told.contradicts]:
        raise TidewireError(
            f"{len(wrong)} of {len(found)} triggers are contradicted: {', '.join(wrong[:10])}"
        )


def _settings() -> Settings:
    """Of the running demo, where there is one."""
    return fill_in(of_the_demo(config.load()))


def _known(settings: Settings, account: str) -> None:
    names = [found.name for found in accounts.load(settings)]
    if account not in names:
        there = ", ".join(names) or "none: see `tidewire accounts example`"
        raise ConfigError([f"no such account: {account} (there are: {there})"])


def _warn(text: str) -> None:
    print(f"tidewire: {text}", file=sys.stderr)


def _table(head: tuple[str, ...], cells: list[list[Any]]) -> None:
    table = Table(*head, box=box.SIMPLE_HEAD)
    for row in cells:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
