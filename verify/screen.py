"""The completeness report for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from verify.coverage import WORDS
from verify.report import Report

_COLUMNS = {
    "sent": "sent",  # published for a subscribed symbol
    "topic": "Kafka",
    "table": "folded",
    "postgres": "PostgreSQL",
    "pushed": "pushed",  # told to a client
    "duplicates": "repeats",  # kept once
    "filtered": "filtered",  # left out on purpose
    "late": "late",  # of an earlier session
    "repaired": "repaired",  # fetched over REST
    "dead_lettered": "dead letters",  # given up, bytes kept
    "expired": "expired",  # no longer kept in PostgreSQL
    "unrecoverable": "lost",  # Alpaca cannot give it back
    "missing": "missing",  # sent, and not everywhere
    "extra": "extra",  # stored, and never sent
}
_ALWAYS = ("trades", "quotes", "bars", "sent", "topic", "table", "postgres", "missing", "extra")
_SHOWN = 10


def render(report: Report) -> RenderableType:
    """A table of counts, the verdict, and the first missing events with their content."""
    body = report.as_json()
    shown = {name: counts for name, counts in body["channels"].items() if _worth_showing(name, counts)}
    table = Table(title="Completeness", title_justify="left")
    table.add_column("")
    columns = [name for name in _COLUMNS if name in _ALWAYS or any(c.get(name) for c in shown.values())]
    for name in columns:
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    for channel, counts in shown.items():
        table.add_row(channel.replace("_", " "), *(_cell(name, counts.get(name)) for name in columns))
    parts: list[RenderableType] = [table, _verdict(report)]
    if any(body["gaps"].values()) or any(total["audited"] for total in body["coverage"].values()):
        parts.append(_coverage(body["coverage"], body["gaps"]))
    if body["positions"]:
        parts.append(_positions(body["positions"]))
    if body["exits"]["triggers"]:
        parts.append(Text(_exits(body["exits"])))
    parts += [Text(f"  ! {problem}", "red") for problem in body["problems"]]
    for missing in body["missing_events"][:_SHOWN]:
        parts.append(Text(_line(missing), "red"))
    left = sum(o.missing for o in report.channels.values()) - min(_SHOWN, len(body["missing_events"]))
    if body["missing_events"] and left > 0:
        parts.append(Text(f"  and {left:,} more", "red"))
    parts += [Text(_lost(lost), "yellow") for lost in body["unrecoverable_events"][:_SHOWN]]
    parts += [Text(_letter(letter), "yellow") for letter in body["dead_letters"][:_SHOWN]]
    parts += [Text(f"  {note}", "dim") for note in body["notes"]]
    return Group(*parts)


def _exits(counts: dict[str, int]) -> str:
    """How many exits fired, and what became of them."""
    words = {"taken": "taken", "orders": "orders", "closed": "closed", "not_closed": "ended with a reason"}
    words |= {"still_open": "open"}
    return f"exits: {counts['triggers']} fired, " + ", ".join(f"{counts[n]} {w}" for n, w in words.items())


def _positions(positions: list[dict[str, str | None]]) -> Table:
    """Ours beside the broker's: quantities must be equal, averages follow two rules."""
    table = Table(title="Open positions", title_justify="left")
    for name in ("account", "symbol"):
        table.add_column(name, no_wrap=True)
    for name in ("quantity", "broker's", "average", "broker's", "by its rule"):
        table.add_column(name, justify="right", no_wrap=True)
    for position in positions[:_SHOWN]:
        numbers = (
            "quantity", "broker_quantity", "average_price", "broker_average_price", "rule_average_price",
        )  # fmt: skip
        cells = [f"{float(value):,.6g}" if (value := position[name]) else "-" for name in numbers]
        table.add_row(position["account"], position["symbol"], *cells)
    return table


def _coverage(coverage: dict[str, dict[str, int]], gaps: dict[str, int]) -> Table:
    """Symbols' minutes by what is known of them."""
    counted = ", ".join(f"{count:,} {word}" for word, count in gaps.items())
    table = Table(title="Minutes of symbols", title_justify="left", caption=f"gaps: {counted}")
    table.add_column("")
    for word in WORDS:
        table.add_column(word, justify="right", no_wrap=True)
    for channel, totals in coverage.items():
        table.add_row(channel.replace("_", " "), *(f"{totals[word]:,}" for word in WORDS))
    return table


def _worth_showing(name: str, counts: dict[str, int | None]) -> bool:
    """The stocks always; what no one used of the rest would only take room."""
    return name in _ALWAYS or any(counts.values())


def _cell(name: str, value: int | None) -> Text:
    if value is None:
        return Text("-", "dim")
    return Text(f"{value:,}", "bold red" if value and name in ("missing", "extra") else "")


def _verdict(report: Report) -> Text:
    rate = "" if report.messages_per_second is None else f"  ({report.messages_per_second:,.0f} messages/s)"
    if report.complete:
        return Text(f"complete{rate}", "bold green")
    return Text(f"NOT complete{rate}", "bold red")


def _line(missing: dict[str, object]) -> str:
    copies = f" x{missing['copies']}" if missing["copies"] != 1 else ""
    return (
        f"  missing in {missing['where']}: {missing['channel']} {missing['time']}{copies} {missing['event']}"
    )


def _lost(lost: dict[str, object]) -> str:
    copies = f" x{lost['copies']}" if lost["copies"] != 1 else ""
    return f"  unrecoverable: {lost['channel']} {lost['time']}{copies} {lost['event']}"


def _letter(letter: dict[str, object]) -> str:
    place = (
        f"{letter['topic']}-{letter['partition']}@{letter['offset']}"
        if letter["offset"] != -1
        else letter["topic"]
    )
    return f"  dead letter ({letter['stage']}): {place}: {letter['reason']}"
