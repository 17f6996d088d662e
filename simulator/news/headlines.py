"""Files of labelled headlines as messages of a tape: CSV with a headline a line, entities beside them.

`id,headline,label,n_entities,split` gives one article a line, its tickers made from the entities of the same
id in a file `headline_id,headline,entity,label,split` of the run or of the same folder. A file of entities
without its headlines gives one article an id. The labels are nobody's business here. Headlines have no times:
they are spread evenly over one day.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import TextIOWrapper
from pathlib import Path
from typing import Literal

from simulator.lines import ReadError, open_text
from simulator.news.articles import Article, message, ticker_of
from simulator.rejects import Rejects
from simulator.wire import Message, Streams

Shape = Literal["headlines", "entities"]

_HEADERS: dict[tuple[str, ...], Shape] = {
    ("id", "headline", "label", "n_entities", "split"): "headlines",
    ("headline_id", "headline", "entity", "label", "split"): "entities",
}
DAY_START = 1_723_075_200_000_000_000
"""2024-08-08, the day of the crypto recording."""
DAY_SECONDS = 86_400
FIRST_ID = 30_000_000
BLOCK = 256
_SECOND = 1_000_000_000


def recognise(path: Path) -> Shape | None:
    """What a CSV file's first line says it is; None when it is neither."""
    try:
        with open_text(path) as text:
            line = text.readline(4096).decode("utf-8-sig").strip()
    except (ReadError, OSError, EOFError, UnicodeDecodeError):
        return None
    return _HEADERS.get(tuple(line.split(",")))


class Headlines:
    """One file of articles and the files of entities that name their companies."""

    def __init__(self, path: Path, entities: Sequence[Path]) -> None:
        self._path = path
        self._entities = entities

    def read(self, streams: Streams, rejects: Rejects) -> Iterator[list[Message]]:
        """One message an article, evenly over the day, in blocks."""
        tickers = _tickers(self._entities)
        rows = list(_articles(self._path, rejects))
        step = DAY_SECONDS / max(1, len(rows))
        block: list[Message] = []
        for number, (identity, headline) in enumerate(rows):
            at = DAY_START + int(number * step) * _SECOND
            arrival = DAY_START + int(number * step * _SECOND)
            article = Article(
                FIRST_ID + identity,
                headline,
                "",
                f"<p>{escape(headline)}</p>",
                "Newsdesk",
                "benzinga",
                tickers.get(identity, ()),
                at,
                at,
            )
            block.append(message(article, arrival, streams))
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block


def _articles(path: Path, rejects: Rejects) -> Iterator[tuple[int, str]]:
    """(id, headline) of each article; broken lines are noted."""
    seen: set[int] = set()
    shape = recognise(path)
    for line, row in _rows(path, rejects):
        raw = ",".join(row).encode()
        if len(row) != 5 or not row[0].isdecimal() or not row[1].strip():
            rejects.line(str(path), line, raw, "not an id, a headline and three more columns", "news")
        elif int(row[0]) not in seen:
            seen.add(int(row[0]))
            yield int(row[0]), row[1].strip()
        elif shape == "headlines":
            rejects.line(str(path), line, raw, "an id that was there before", "news")


def _tickers(paths: Sequence[Path]) -> Mapping[int, Sequence[str]]:
    """Headline id -> tickers, each once, in the order of the files."""
    found: dict[int, dict[str, None]] = {}
    for path in paths:
        for _, row in _rows(path, Rejects()):
            if len(row) == 5 and row[0].isdecimal() and (ticker := ticker_of(row[2])):
                found.setdefault(int(row[0]), {})[ticker] = None
    return {identity: tuple(tickers) for identity, tickers in found.items()}


def _rows(path: Path, rejects: Rejects) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row behind the header; a file that breaks off is noted."""
    number = 1
    try:
        with open_text(path) as file, TextIOWrapper(file, "utf-8-sig", "replace", newline="") as text:
            reader = csv.reader(text)
            next(reader, None)
            for row in reader:
                number = reader.line_num
                if row:
                    yield number, row
    except (ReadError, OSError, EOFError, csv.Error) as error:
        rejects.line(str(path), number + 1, b"", f"the file ends here: {error}", "news")
