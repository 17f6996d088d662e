"""Builds the C sources here: `python -m tidewire.columns.native.build`, which `make setup` runs.

With `--or-go-on` a failure is only said: without the library records are decoded by Polars.

The compiler is the package `ziglang`, so that a machine needs none of its own. Nothing is done when the
library there was built from the same sources by the same compiler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from tidewire.columns.native import library

# Any machine of its kind can run what comes out: an image is built on one and run on another.
_FLAGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O2",
    "-shared",
    "-fPIC",
    "-mcpu=baseline",
    "-fno-sanitize=all",
    "-g0",
    "-s",
    "-nostdlib",
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
        return "the native decoder is built; nothing has changed"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "decode.so"
        _compile(made, Path(folder))
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(made.read_bytes())
        fresh.replace(target)  # never half a library where another process may load it
    stamp.write_text(wanted)
    return f"built the native decoder: {target}"


def _compiler() -> str:
    try:
        return metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        raise OSError("the package ziglang, which has the compiler, is not installed here") from None


def _compile(made: Path, cache: Path) -> None:
    source = f'-DTIDEWIRE_SOURCE="{library.fingerprint()}"'
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *_FLAGS, source, "-o", str(made), *map(str, library.SOURCES)],
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
        print(
            f"the native decoder could not be built, records will be decoded by Polars: {error}",
            file=sys.stderr,
        )
        return 0 if "--or-go-on" in sys.argv else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
