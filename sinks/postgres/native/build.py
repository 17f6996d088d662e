"""Builds copy.c: `python -m sinks.postgres.native.build`, which `make setup` runs.

With `--or-go-on` a failure is only said: without the library pgpq makes the rows.

The compiler is the package `ziglang`, as for the native decoder (tidewire/columns/native/build.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from sinks.postgres.native import library

# Any machine of its kind can run what comes out: an image is built on one and run on another.
_FLAGS = (
    *("-std=c99", "-O2", "-shared", "-fPIC", "-mcpu=baseline", "-fno-builtin", "-fno-sanitize=all"),
    *("-g0", "-s", "-nostdlib"),
)
_COMPILE_SECONDS = 300


def build() -> str:
    """Build the library if need be; says what was done.

    Raises:
        OSError: there is no compiler, or it failed; the message is its own.
    """
    target = library.path()
    stamp = target.with_suffix(".stamp")
    wanted = f"{library.fingerprint()} {_compiler()} {' '.join(_FLAGS)}\n"
    if target.exists() and stamp.exists() and stamp.read_text() == wanted:
        return "the native encoder is built; nothing has changed"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "copy.so"
        _compile(made, Path(folder))
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(made.read_bytes())
        fresh.replace(target)  # never half a library where another process may load it
    stamp.write_text(wanted)
    return f"built the native encoder: {target}"


def _compiler() -> str:
    try:
        return metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        raise OSError("the package ziglang, which has the compiler, is not installed here") from None


def _compile(made: Path, cache: Path) -> None:
    source = f'-DTIDEWIRE_SOURCE="{library.fingerprint()}"'
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *_FLAGS, source, "-o", str(made), str(library.SOURCE)],
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=_COMPILE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise OSError(f"the compiler failed:\n{done.stderr.strip()}")


def main() -> int:
    """Build; returns the exit code."""
    try:
        print(build())
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"the native encoder could not be built, rows will be made by pgpq: {error}", file=sys.stderr)
        return 0 if "--or-go-on" in sys.argv else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
