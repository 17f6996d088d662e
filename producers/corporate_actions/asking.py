"""Asks Alpaca for announcements: of some symbols, page by page, and for single ones that an answer lacked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from producers.corporate_actions.reading import Announced, canonical, read
from producers.history.client import History

PIECE = 100
"""Symbols, or ids, of one request."""

Unreadable = Callable[[str, str, str], None]
"""(bucket, the announcement as JSON, why it cannot be read)."""


@dataclass(slots=True)
class Answer:
    """What Alpaca has said: what could be read, and (bucket, JSON, reason) of what could not."""

    announced: list[Announced] = field(default_factory=list)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, bucket: str, action: Mapping[str, Any]) -> None:
        """One element of a list of an answer."""
        try:
            self.announced.append(read(bucket, action))
        except ValueError as error:
            self.unreadable.append((bucket, canonical(action), str(error)))


async def of_symbols(history: History, symbols: Collection[str], start: str, end: str) -> Answer:
    """All announcements of these symbols that are processed from `start` to `end` (YYYY-MM-DD, inclusive).

    Raises HistoryError: then nothing is known of any of them.
    """
    answer = Answer()
    for piece in _pieces(sorted(symbols)):
        parameters = {"symbols": ",".join(piece), "start": start, "end": end}
        await _ask(history, parameters, answer)
    return answer


async def by_id(history: History, ids: Collection[str]) -> Answer:
    """The announcements of these ids, whenever they are processed. Raises HistoryError."""
    answer = Answer()
    for piece in _pieces(sorted(ids)):
        await _ask(history, {"ids": ",".join(piece)}, answer)
    return answer


async def _ask(history: History, parameters: Mapping[str, str], answer: Answer) -> None:
    async for bucket, action in history.corporate_actions(parameters):
        answer.add(bucket, action)


def _pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), PIECE):
        yield names[start : start + PIECE]
