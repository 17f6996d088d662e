"""Runs the parser in its process, with a time limit."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any

SECONDS = 15.0
LARGEST_ANSWER = 64 * 1024 * 1024


class UnreadableError(Exception):
    """A document that is no feed, or that nobody could read in time."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """`entries` as parsing.py gives them; `left_out`: entries beyond the limit; `broken`: why it was not well
    formed.
    """

    entries: list[dict[str, Any]]
    left_out: int
    broken: str | None


async def parse(body: bytes, url: str, content_type: str, *, seconds: float = SECONDS) -> Parsed:
    """The entries of a document. Raises UnreadableError."""
    # The child gets nothing of this process' environment: keys stay here.
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-X", "utf8", "-m", "producers.rss.parsing",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={},
    )  # fmt: skip
    about = json.dumps({"url": url, "content_type": content_type}).encode()
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await child.communicate(about + b"\n" + body)
    except TimeoutError:
        raise UnreadableError(f"not parsed within {seconds:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode or len(answer) > LARGEST_ANSWER:
        raise UnreadableError(f"the parser gave up (exit {child.returncode}, {len(answer)} bytes)")
    found = json.loads(answer)
    if not found["entries"] and not found["version"]:
        raise UnreadableError(f"not a feed: {found['broken'] or 'neither RSS nor Atom'}")
    return Parsed(found["entries"], found["left_out"], found["broken"])
