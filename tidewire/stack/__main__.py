"""`python -m tidewire.stack fetch|write-lock`: what set-up and the Makefile do with Apache Kafka's jars."""

from __future__ import annotations

import sys

from tidewire.errors import StackError
from tidewire.stack import jars


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    try:
        if arguments == ["fetch"]:
            jars.classpath(lambda line: print(line, flush=True))
        elif arguments == ["write-lock"]:
            written = jars.write_lock()
            print(f"{jars.LOCK_FILE.name}: {len(written)} jars, {sum(j.size for j in written) // 10**6} MB")
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
