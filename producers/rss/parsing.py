"""Bytes of a feed -> its entries, in a process of its own: `python -m producers.rss.parsing`.

feedparser is plain Python over bytes that anybody may have written; some documents keep it busy for hours. So
it runs where its time and memory are bounded and where no key is in reach. It is given bytes and never a URL
or a name: from those it would fetch or open files by itself.

Reads one line of JSON (url, content_type) and then the document from standard input; writes one JSON object:
`entries`, and `broken`: why the document was not well formed (its entries may be good all the same).
"""

from __future__ import annotations

import calendar
import json
import sys
from contextlib import suppress
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import feedparser

CPU_SECONDS = 10
MEMORY_BYTES = 1 << 30
LARGEST_FEED = 1000
"""Entries of one document; feeds name their newest first."""


def entries(body: bytes, url: str, content_type: str) -> dict[str, Any]:
    """What a document holds: texts stripped of space, times in ns since 1970 or None."""
    headers = {"content-location": url, "content-type": content_type}
    parsed = feedparser.parse(BytesIO(body), response_headers=headers)
    broken = parsed.get("bozo_exception") if parsed.get("bozo") else None
    return {
        "entries": [_entry(entry) for entry in parsed.entries[:LARGEST_FEED]],
        "left_out": max(0, len(parsed.entries) - LARGEST_FEED),
        "broken": None if broken is None else f"{type(broken).__name__}: {broken}"[:300],
        "version": parsed.get("version") or "",
    }


def plain(html: str) -> str:
    """The text of a piece of HTML, its white space made single."""
    if "<" not in html and "&" not in html:
        return " ".join(html.split())
    reader = _Text()
    reader.feed(html)
    reader.close()
    return " ".join("".join(reader.pieces).split())


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.pieces.append(" ")


def _entry(entry: Any) -> dict[str, Any]:
    summary = _text(entry, "summary")
    content = next((str(part.get("value") or "") for part in dict.get(entry, "content") or ()), "")
    tags = dict.get(entry, "tags") or ()
    return {
        "id": _text(entry, "id"),
        "link": _text(entry, "link"),
        "headline": plain(_text(entry, "title")),
        "summary": plain(summary),
        # Many feeds put the whole article where its summary belongs.
        "content": content or (summary if "<" in summary else ""),
        "author": plain(_text(entry, "author")),
        "published": _time(entry, "published_parsed"),
        "updated": _time(entry, "updated_parsed"),
        "categories": [str(tag["term"]) for tag in tags if tag.get("term")][:50],
    }


# dict.get: feedparser's own answers a missing `updated` with `published`, and warns of it.
def _text(entry: Any, name: str) -> str:
    value = dict.get(entry, name)
    return value.strip() if isinstance(value, str) else ""


def _time(entry: Any, name: str) -> int | None:
    try:
        value = dict.get(entry, name)
        return None if value is None else calendar.timegm(value) * 10**9
    except (TypeError, ValueError, OverflowError):
        return None


def _bound() -> None:
    with suppress(ImportError, OSError, ValueError):  # not every system has them; the time limit outside has
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main() -> None:
    """Standard input to standard output."""
    _bound()
    about = json.loads(sys.stdin.buffer.readline())
    found = entries(sys.stdin.buffer.read(), about["url"], about["content_type"])
    sys.stdout.buffer.write(json.dumps(found).encode())


if __name__ == "__main__":
    main()
