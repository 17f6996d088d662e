"""`tidewire gaps`: what is missing, what is being fetched, and what is known of every minute."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from schemas.codec import Codec, load_codec
from schemas.gaps import EVERY, Gap, kind_of
from tidewire import config
from tidewire.clock import NS_PER_SECOND, now_ns
from tidewire.config import Settings
from tidewire.stack import fill_in
from verify import completeness, gap_screen, presence
from verify.completeness import Completeness
from verify.coverage import Coverage

_EVERY_SECONDS = 2.0
_LOOKS_A_COVERAGE = 5
"""Coverage reads the topics: with --watch it is looked up with every so many looks at the gaps."""


@dataclass(frozen=True, slots=True)
class _Asked:
    open_only: bool
    feed: str | None
    symbol: str | None
    minutes: bool
    hours: float

    def gaps(self, told: Completeness) -> list[Gap]:
        found = told.board.open() + ([] if self.open_only else told.board.closed())
        return sorted((gap for gap in found if self._wants(gap)), key=lambda gap: (gap.opened_ts, gap.id))

    def _wants(self, gap: Gap) -> bool:
        if self.feed is not None and self.feed not in (gap.feed, kind_of(gap.feed)):
            return False
        return self.symbol is None or self.symbol in gap.symbols or EVERY in gap.symbols


def gaps(
    open_only: Annotated[bool, typer.Option("--open", help="Only gaps that are not closed.")] = False,
    feed: Annotated[
        str | None, typer.Option(help="Only of this feed (stocks:iex) or kind of feed (stocks).")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Only what concerns this symbol.")] = None,
    minutes: Annotated[bool, typer.Option("--minutes", help="List the minutes of each symbol too.")] = False,
    hours: Annotated[
        float, typer.Option(min=0, help="Coverage of what was received in the last so many hours; 0: none.")
    ] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow, until Ctrl-C.")] = False,
) -> None:
    """List the gaps with their progress, and say of every minute: audited, received, gap or unrecoverable."""
    settings = fill_in(config.load())
    asked = _Asked(open_only, feed, None if symbol is None else symbol.upper(), minutes, hours)
    if watch:
        with suppress(KeyboardInterrupt):
            asyncio.run(_watch(settings, asked))
        return
    found, coverage = asyncio.run(_look(settings, asked))
    if as_json:
        body = {
            "gaps": gap_screen.gaps_as_json(found),
            "coverage": gap_screen.coverage_as_json(coverage, minutes),
        }
        print(json.dumps(body, indent=2))
    else:
        Console().print(gap_screen.render(found, coverage if hours else None, minutes))


async def _look(settings: Settings, asked: _Asked) -> tuple[Sequence[Gap], dict[str, Coverage]]:
    codec = load_codec(settings)
    told = await completeness.read(settings, codec)
    return asked.gaps(told), await _coverage(settings, codec, asked, told)


async def _coverage(
    settings: Settings, codec: Codec, asked: _Asked, told: Completeness
) -> dict[str, Coverage]:
    if not asked.hours:
        return {}
    since = now_ns() - int(asked.hours * 3600 * NS_PER_SECOND)
    kind = None if asked.feed is None else kind_of(asked.feed)
    found = await presence.coverage(
        settings, codec, told, since, lambda channel: kind is None or channel.venue == kind
    )
    if asked.symbol is None:
        return found
    narrowed = {name: covered.of(asked.symbol) for name, covered in found.items()}
    return {name: covered for name, covered in narrowed.items() if covered.states.height}


async def _watch(settings: Settings, asked: _Asked) -> None:
    codec = load_codec(settings)
    looks, coverage = 0, dict[str, Coverage]()
    with Live(auto_refresh=False) as live:
        while True:
            told = await completeness.read(settings, codec)
            if looks % _LOOKS_A_COVERAGE == 0:
                coverage = await _coverage(settings, codec, asked, told)
            shown = coverage if asked.hours else None
            live.update(gap_screen.render(asked.gaps(told), shown, asked.minutes), refresh=True)
            looks += 1
            await asyncio.sleep(_EVERY_SECONDS)
