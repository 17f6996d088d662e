"""`tidewire replay exits`: exits folded anew over the log, checked against it, or tried out on it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer
import uvloop
from aiokafka import TopicPartition
from rich import box
from rich.console import Console
from rich.table import Table

from console.commands.backfill_request import moment
from console.commands.readable import time_text
from console.commands.replay_output import WIDE, bar, ready, say
from console.commands.topic_names import resolve
from replay import exit_run, into, recheck
from replay.exit_run import Found, Request
from replay.inputs import RANKED
from replay.order import EVENT, RECEIVED
from replay.recheck import Checked
from replay.what_if import WhatIf
from schemas.catalogue import Catalogue
from schemas.exit_rules import parse
from tidewire.clock import now_ns
from tidewire.errors import ConfigError
from tidewire.exit_spec import plain as money

_PLACE = re.compile(r"(.+):(\d+):(\d+)")
_LISTED = 20

Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", help="Of positions or of their prices; may be repeated.")
]


def exits(
    symbol: Symbols = None,
    from_: Annotated[
        list[str] | None,
        typer.Option("--from", help="Received since: 2026-11-20T14:30, 2h (ago), or TOPIC:PARTITION:OFFSET."),
    ] = None,
    until: Annotated[
        list[str] | None, typer.Option(help="Received before: a time, or TOPIC:PARTITION:OFFSET.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Order by event time, or received: for markets played on another day.")
    ] = EVENT,
    check: Annotated[
        bool,
        typer.Option("--check", help="Evaluate every trigger of the service again; exit code 1: differs."),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--into", help="Write what would have been ordered to this topic (replay.*)."),
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="Try a rule out: its JSON; with --symbol, --entry, --quantity.")
    ] = None,
    entry: Annotated[str | None, typer.Option(help="Price in USD at which the position was opened.")] = None,
    quantity: Annotated[str | None, typer.Option(help="Held; negative: short.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find the triggers that the log gives: nothing is ordered, running services are not touched.

    Examples:

      tidewire replay exits --from 2h

      tidewire replay exits --check

      tidewire replay exits --symbol AAPL --into replay.aapl --json

      tidewire replay exits --rule '{"kind": "trailing_stop", "trail_percent": "2"}' --symbol AAPL
      --entry 187.50 --quantity 100 --from 1d
    """
    settings, catalogue, codec = ready()
    symbols = frozenset(name.strip().upper() for name in symbol or ())
    what_if = _what_if(rule or [], symbols, entry, quantity)
    if by not in (EVENT, RECEIVED):
        raise ConfigError([f"--by {by}: {EVENT} or {RECEIVED}"])
    if check:
        if rule or to or from_ or until:
            raise ConfigError(["--check takes every trigger of the log: only --symbol goes with it"])
        with bar("looking up") as (begun, told):
            checked = uvloop.run(
                recheck.check(settings, catalogue, codec, lambda t: _asked(t, symbols), begun, told)
            )
        _show_check(checked, as_json)
        raise typer.Exit(0 if checked.same else 1)
    topic = None if to is None else into.own_topic(to, catalogue)
    request = _request(catalogue, symbols, from_ or [], until or [], by, what_if)
    started = time.monotonic()
    with bar("folding") as (begun, told):
        found = uvloop.run(exit_run.replay(settings, catalogue, codec, request, begun, told))
    if topic is not None:
        intents = into.intents(found.triggers, found.run_id)
        uvloop.run(into.write(settings, codec, topic, catalogue.partitions, intents))
        say(f"{len(intents):,} intents of run {found.run_id} written to {topic}: no executor takes them")
    if as_json:
        print(json.dumps(_as_json(found, what_if is not None), indent=1))
    else:
        _show(found, what_if)
    _account(found, time.monotonic() - started, what_if)


def _asked(trigger: dict[str, Any], symbols: frozenset[str]) -> bool:
    return not symbols or not symbols.isdisjoint((trigger["symbol"], trigger["reference_symbol"]))


def _request(
    catalogue: Catalogue,
    symbols: frozenset[str],
    since: Sequence[str],
    until: Sequence[str],
    by: str,
    what_if: WhatIf | None,
) -> Request:
    since_ns, since_at = _window("--from", since, catalogue)
    until_ns, until_at = _window("--until", until, catalogue)
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise ConfigError(["--until is before --from"])
    asked = frozenset() if what_if is not None else symbols
    return Request(asked, since_ns, until_ns, since_at, until_at, by, what_if)


def _window(
    option: str, given: Sequence[str], catalogue: Catalogue
) -> tuple[int | None, dict[TopicPartition, int]]:
    """One time at most, and offsets of single partitions."""
    known = {catalogue.name(topic) for topic, _ in RANKED}
    times: list[int] = []
    places: dict[TopicPartition, int] = {}
    for text in given:
        if (place := _PLACE.fullmatch(text)) is None or place[1].count("-") >= 2:
            times.append(moment(option, text, now_ns()))
            continue
        topic = resolve(place[1], catalogue, known)
        if topic not in known:
            raise ConfigError([f"{option} {text}: exits do not read this topic"])
        places[TopicPartition(topic, int(place[2]))] = int(place[3])
    if len(times) > 1:
        raise ConfigError([f"{option}: one time at most"])
    return (times[0] if times else None), places


def _what_if(
    rules: Sequence[str], symbols: frozenset[str], entry: str | None, quantity: str | None
) -> WhatIf | None:
    if not rules:
        if entry is not None or quantity is not None:
            raise ConfigError(["--entry and --quantity belong to a --rule that is tried out"])
        return None
    problems: list[str] = []
    amounts = {}
    for option, text in (("--entry", entry), ("--quantity", quantity)):
        try:
            amounts[option] = Decimal("nan" if text is None else text)
        except InvalidOperation:
            amounts[option] = Decimal("nan")
        if not amounts[option].is_finite() or not amounts[option]:
            problems.append(f"{option}: a number is needed to try a rule out")
    if amounts["--entry"].is_finite() and amounts["--entry"] < 0:
        problems.append("--entry must be more than 0")
    if len(symbols) != 1:
        problems.append("--symbol: name the one position to try the rule on")
    named = []
    for number, text in enumerate(rules, 1):
        try:
            spec = parse(text)
        except ConfigError as error:
            problems += [f"--rule {number}: {problem}" for problem in error.problems]
        else:
            named.append((f"{number}-{spec.kind}".replace("_", "-"), spec))
    if problems:
        raise ConfigError(problems)
    return WhatIf(next(iter(symbols)), amounts["--entry"], amounts["--quantity"], tuple(named))


def _show(found: Found, what_if: WhatIf | None) -> None:
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = WIDE
    last = "gain (USD)" if what_if else "the service"
    table = Table("time (UTC)", "trigger", "rule", "price", "threshold", last, box=box.SIMPLE_HEAD)
    for trigger in found.triggers:
        outcome = _gain(trigger, what_if) if what_if else found.as_live(trigger)
        cells = trigger["rule"], _price(trigger), money(trigger["threshold"]), outcome
        table.add_row(time_text(trigger["ts"])[:-4], trigger["trigger_id"], *cells)
    if found.triggers:
        console.print(table, markup=False)
    elif not what_if:
        print("no trigger")
    else:
        print(f"it would not have fired; {_last(found)}")


def _gain(trigger: dict[str, Any], what_if: WhatIf) -> str:
    """Before costs and slippage; where another symbol's price was watched nobody knows."""
    if trigger["reference_symbol"] != trigger["symbol"] or not trigger["inputs"]:
        return "-"
    price = Decimal(repr(trigger["inputs"][-1]["value"]))
    return f"{(price - what_if.entry) * what_if.quantity:,.2f}"


def _last(found: Found) -> str:
    if not found.turns:
        return "there was no price of its symbol"
    turn = found.turns[-1]
    return f"its last turn: {turn['event']} at {time_text(turn['ts'])}" + (
        f" ({turn['reason']})" if turn["reason"] else ""
    )


def _price(trigger: dict[str, Any]) -> str:
    return str(trigger["inputs"][-1]["value"]) if trigger["inputs"] else "-"


def _account(found: Found, seconds: float, what_if: WhatIf | None) -> None:
    counts = found.counts
    parts = [f"run {found.run_id}", f"{counts['read']:,} records read in {seconds:.1f} s"]
    names = {"filtered": "of symbols that nobody watches", "stale": "of a stale owner", "refused": "refused"}
    parts += [f"{counts[name]:,} {words}" for name, words in names.items() if counts[name]]
    say(", ".join(parts))
    if what_if is not None:
        return
    if found.restored:
        say(f"{found.restored:,} watches are those of triggers: exits.watch keeps only the newest of each")
    if found.spent:
        say(f"{len(found.spent):,} triggers of the service fired on prices that are not replayed: left out")
    for name in found.missing[:_LISTED]:
        say(f"the service fired {name}, this replay did not")
    if (more := len(found.missing) - _LISTED) > 0:
        say(f"and {more:,} more")


def _as_json(found: Found, with_turns: bool) -> dict[str, Any]:
    shown = {
        "run_id": found.run_id,
        "triggers": [_plain(t) | {"service": found.as_live(t)} for t in found.triggers],
        "missing": found.missing,
        "not_replayed": sorted(found.spent),
        "restored_watches": found.restored,
        "counts": dict(sorted(found.counts.items())),
    }
    return shown | {"turns": [_plain(turn) for turn in found.turns]} if with_turns else shown


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """As JSON can hold it: money as text, bytes as hex."""
    return {
        name: money(value)
        if isinstance(value, Decimal)
        else value.hex()
        if isinstance(value, bytes)
        else value
        for name, value in record.items()
    }


def _show_check(found: Checked, as_json: bool) -> None:
    if as_json:
        names = ("same", "triggers", "inputs", "differing", "gone", "partly")
        print(json.dumps({name: getattr(found, name) for name in names}, indent=1))
        return
    for name, wrong in list(found.differing.items())[:_LISTED]:
        for line in wrong:
            print(f"{name}: {line}")
    if (more := len(found.differing) - _LISTED) > 0:
        print(f"and {more:,} more")
    for reason, count in sorted(found.gone.items()):
        print(f"{count:,} prices of {len(found.partly):,} triggers cannot be looked up: {reason}")
    verdict = "every trigger gives itself" if found.same else f"{len(found.differing):,} triggers differ"
    print(f"{verdict}: {found.triggers:,} evaluated again, {found.inputs:,} prices as the log has them")
