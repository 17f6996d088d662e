"""One measured side in a child process: `python -m benchmarks.process module:function`, JSON on stdin.

The side returns a JSON object; the last line of its stdout is the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.results import Sample

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 300


class SideFailedError(Exception):
    """A measured process ended with an error; the text is the end of what it said."""


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with everything of tidewire's replaced."""
    drop = ("TIDEWIRE_", "KAFKA_", "APCA_", "DATABASE_URL", "SCHEMA_REGISTRY_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    return kept | {"POLARS_MAX_THREADS": "1", "RUST_BACKTRACE": "0"} | dict(env)


def side(where: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Run one side to its end and give its answer.

    Raises:
        SideFailedError: it ended with an error or not at all.
    """
    command = [sys.executable, "-m", "benchmarks.process", where]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(dict(arguments)),
            env=environment(env),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SideFailedError(f"{where} did not end within {PATIENCE_SECONDS} s") from error
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not told:
        raise SideFailedError(f"{where} ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    answer: dict[str, Any] = json.loads(told[-1])
    return answer


def sample(where: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> Sample:
    """`side` for one that answers with records, wall and cpu."""
    answer = side(where, arguments, env)
    return Sample(int(answer["records"]), float(answer["wall"]), float(answer["cpu"]))


def main() -> None:
    """The child."""
    module, _, function = sys.argv[1].partition(":")
    print("\n" + json.dumps(getattr(import_module(module), function)(**json.load(sys.stdin))), flush=True)


if __name__ == "__main__":
    main()
