"""`python -m benchmarks.profiles [names...]`: on what each side spends its CPU time, drawn in docs/profiles.

The same sides that the benchmarks measure, and the same part of them, from the first record on. A profiler
looks 250 times a second, at threads that use the processor, and does not stop what it looks at. Flame graphs:
as wide as the share of the time.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pictured import PICTURE
from benchmarks.process import ROOT, side
from benchmarks.servers import Servers, running

PICTURES = ROOT / "docs" / "profiles"
RECORDS = 1_000_000
_FOLDED = 6_000_000
"""Of the processor, which would be through with fewer before the profiler has seen much."""
_HEADING = re.compile(r'(<text id="title"[^>]*>)[^<]*<')

Say = Callable[[str], None]
Run = Callable[[str, Mapping[str, Any], Mapping[str, str]], object]


@dataclass(frozen=True, slots=True)
class Profile:
    """A picture: what is on it, and how to run it with the servers given."""

    title: str
    run: Callable[[Servers, Run], None]


def _ingest(servers: Servers, run: Run) -> None:
    with servers.topics("profile-ingest") as mine:
        run("benchmarks.ingest:publish", {"count": RECORDS}, mine.env())


def _processing(servers: Servers, run: Run) -> None:
    with servers.topics("profile-processing") as mine:
        side("benchmarks.ingest:publish", {"count": _FOLDED}, mine.env())
        run("benchmarks.processing:fold", {"count": _FOLDED}, mine.env())


def _sink(servers: Servers, run: Run) -> None:
    with servers.topics("profile-sink") as mine, mine.fresh_database() as fresh:
        side("benchmarks.ingest:publish", {"count": RECORDS}, fresh.env())
        run("benchmarks.storing:sink", {"count": RECORDS, "database": fresh.database}, fresh.env())


PROFILES: Mapping[str, Profile] = {
    "ingest": Profile("producer: frames of 100 messages to Kafka's acknowledgement", _ingest),
    "processing": Profile("processor: trades and quotes to features, table and changelog", _processing),
    "sink": Profile("sink: trades and quotes to PostgreSQL", _sink),
}


def draw(name: str, servers: Servers, say: Say) -> Path:
    """Run one side and write its picture.

    Raises:
        SideFailedError: the side, or the profiler, ended with an error.
    """
    profile, picture = PROFILES[name], PICTURES / f"{name}.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    say(f"{name}: {profile.title}")
    profile.run(servers, partial(_drawn, picture, profile.title))
    return picture


def _drawn(
    picture: Path, title: str, where: str, arguments: Mapping[str, Any], env: Mapping[str, str]
) -> None:
    side(where, arguments, {**env, PICTURE: str(picture)})
    drawn = picture.read_text("utf-8")  # headed by its command line, with this machine's folders
    picture.write_text(_HEADING.sub(rf"\g<1>{html.escape(title)}<", drawn, count=1), "utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PROFILES, []], help="pictures to draw; all by default")
    options = parser.parse_args(arguments)
    say: Say = partial(print, file=sys.stderr, flush=True)
    with running(say) as servers:
        for name in options.names or PROFILES:
            print(draw(name, servers, say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
