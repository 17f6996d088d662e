"""`python -m benchmarks.peers write-lock`: choose Kafka Streams' jars anew, with those of `VERSION`."""

from __future__ import annotations

import sys

from benchmarks.peers.java import LOCK, STREAMS
from tidewire.stack import jars


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments != ["write-lock"]:
        print(__doc__, file=sys.stderr)
        return 2
    written = jars.write_lock(LOCK, STREAMS, (), "python -m benchmarks.peers write-lock")
    print(f"{LOCK.name}: {len(written)} jars, {sum(jar.size for jar in written) // 10**6} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
