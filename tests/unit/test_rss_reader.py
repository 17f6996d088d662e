"""Feeds are bytes that anybody may have written; they must cost bounded time and reach no file and no key."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from producers.rss.parsing import entries, plain
from producers.rss.reader import UnreadableError, parse

RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>T</title><item>
<title>Apple &lt;b&gt;rises&lt;/b&gt; &amp;amp; shines</title>
<guid isPermaLink="false">g1</guid><link>/story/1</link>
<pubDate>Fri, 21 Nov 2025 10:00:00 -0500</pubDate><category>tech</category>
<description>&lt;p&gt;Full &lt;script&gt;alert(1)&lt;/script&gt;text&lt;/p&gt;</description></item>
</channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>tag:1</id><title>T</title>
<link href="https://x.com/1"/><updated>2025-11-21T10:00:00Z</updated>
<published>2025-11-21T09:00:00Z</published>
<author><name>Ann</name></author><content type="html">&lt;p&gt;C&lt;/p&gt;</content></entry></feed>"""


def test_rss_and_atom_give_the_same_fields() -> None:
    """A format that is read half would look like a source that says less."""
    (rss,) = entries(RSS, "https://example.com/feed", "application/rss+xml")["entries"]
    assert rss["headline"] == "Apple rises & shines"
    assert rss["link"] == "https://example.com/story/1"
    assert rss["published"] == 1_763_737_200 * 10**9
    assert (rss["updated"], rss["id"], rss["categories"]) == (None, "g1", ["tech"])
    assert rss["content"].startswith("<p>Full")
    assert "script" not in rss["content"]
    assert rss["summary"].startswith("Full")
    (atom,) = entries(ATOM, "https://example.com/feed", "application/atom+xml")["entries"]
    assert (atom["id"], atom["author"], atom["content"]) == ("tag:1", "Ann", "<p>C</p>")
    assert atom["updated"] - atom["published"] == 3600 * 10**9


def test_bytes_that_name_a_file_open_none(tmp_path: Path) -> None:
    """feedparser opens files by name: a feed whose bytes are a path must not publish the user's keys."""
    secret = tmp_path / "accounts.xml"
    secret.write_bytes(RSS)
    assert entries(os.fsencode(secret), "https://example.com", "")["entries"] == []


def test_plain_text_has_no_tags() -> None:
    """Scores and headlines are made from words."""
    assert plain("<p>a<br>b</p> &lt;c&gt; <!-- x --> d") == "a b <c> d"


async def test_a_document_that_never_ends_is_given_up_and_its_process_killed() -> None:
    """One hostile feed must not stop the others, nor leave a process that burns a core for ever."""
    before = _children()
    with pytest.raises(UnreadableError, match="not parsed within"):
        await parse(b"<a>" * 400_000, "https://example.com", "", seconds=0.5)
    assert _children() == before


async def test_broken_documents_say_why_and_broken_ends_keep_their_entries() -> None:
    """A feed cut off in the middle still has news in its first half; a login page has none."""
    whole, page = await asyncio.gather(
        parse(RSS[: RSS.index(b"</channel>")], "https://example.com", ""),
        parse(b"<html><body>log in</body></html>", "https://example.com", "", seconds=20),
        return_exceptions=True,
    )
    assert not isinstance(whole, BaseException)
    assert len(whole.entries) == 1
    assert whole.broken is not None
    assert isinstance(page, UnreadableError)


def _children() -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process().children()}
