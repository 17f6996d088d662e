"""Libraries of small C sources: built at `make setup`, found, checked against their sources and loaded.

`python -m tidewire.native MODULE...` builds the `LIBRARY` of each module. With `--or-go-on` a failure is only
said: whoever uses a library does the same without it, slower.

The compiler is the package `ziglang`, so that a machine needs none of its own. Nothing is done when a library
was built from the same sources by the same compiler, and none is loaded that was built from others.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Any machine of its kind can run what comes out: an image is built on one and run on another.
_FLAGS = (
    *("-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-mcpu=baseline"),
    *("-ffp-contract=off", "-fno-builtin", "-fno-sanitize=all", "-g0", "-s", "-nostdlib"),
)
_COMPILE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Library:
    """All C sources of a folder; one has `const char SYMBOL[] = TIDEWIRE_SOURCE;`, the hash of them all."""

    name: str
    folder: Path
    symbol: str

    @property
    def sources(self) -> tuple[Path, ...]:
        """What is compiled."""
        return tuple(sorted(self.folder.glob("*.c")))

    @property
    def path(self) -> Path:
        """Where the library for this machine stands once it is built."""
        return self.folder / f"{self.name}-{sys.platform}-{platform.machine()}.so"

    def fingerprint(self) -> str:
        """What a library must have been built from to be taken."""
        digest = hashlib.sha256()
        for part in (*self.sources, *sorted(self.folder.glob("*.h"))):
            digest.update(part.read_bytes())
        return digest.hexdigest()[:32]

    def open(self) -> ctypes.CDLL:
        """Load it.

        Raises:
            OSError, ValueError: it is not there, not a library, or was built from other sources.
        """
        library = ctypes.CDLL(str(self.path))
        built_from = ctypes.c_char.in_dll(library, self.symbol)
        if ctypes.string_at(ctypes.addressof(built_from)).decode() != self.fingerprint():
            raise OSError("it was built from other sources")
        return library

    def build(self) -> str:
        """Build it if need be; says what was done.

        Raises:
            OSError: there is no compiler, or it failed; the message is its own.
        """
        stamp = self.path.with_suffix(".stamp")
        wanted = f"{self.fingerprint()} {_compiler()} {' '.join(_FLAGS)}\n"
        if self.path.exists() and stamp.exists() and stamp.read_text() == wanted:
            return f"the library {self.name} is built; nothing has changed"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.so"
            self._compile(made, Path(folder))
            fresh = self.path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(made.read_bytes())
            fresh.replace(self.path)  # never half a library where another process may load it
        stamp.write_text(wanted)
        return f"built the library {self.name}: {self.path}"

    def _compile(self, made: Path, cache: Path) -> None:
        source = f'-DTIDEWIRE_SOURCE="{self.fingerprint()}"'
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                *_FLAGS,
                source,
                "-o",
                str(made),
                *map(str, self.sources),
            ],
            env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise OSError(f"the compiler failed:\n{done.stderr.strip()}")


def _compiler() -> str:
    try:
        return metadata.version("ziglang")
    except metadata.PackageNotFoundError:
        raise OSError("the package ziglang, which has the compiler, is not installed here") from None


def main(arguments: list[str]) -> int:
    """Build the libraries of the modules named; returns the exit code."""
    failed = 0
    for name in (argument for argument in arguments if not argument.startswith("--")):
        library: Library = importlib.import_module(name).LIBRARY
        try:
            print(library.build())
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"the library {library.name} could not be built: {error}", file=sys.stderr)
            failed = 1
    return 0 if "--or-go-on" in arguments else failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
