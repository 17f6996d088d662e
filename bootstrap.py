"""Set tidewire up in this folder: `python3 bootstrap.py`, or `make setup`.

Makes .venv, installs what requirements.lock names (every file checked against its hash), installs tidewire
itself, builds its native decoder, and fetches Apache Kafka. Needs Python 3.11 or newer and a network, and
nothing else: this file uses the standard library alone. Run again it does only what has changed; an
interrupted run is simply repeated.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NEEDED = (3, 11)
# Measured on Linux x86-64 with Python 3.11; other systems' files differ by some tens of MB.
PACKAGES_MB = 360
KAFKA_MB = 45
INPUTS = (
    "requirements.lock",
    "pyproject.toml",
    "tidewire/stack/kafka-jars.lock",
    "tidewire/columns/native/decode.c",
    "tidewire/columns/native/keys.c",
    "tidewire/columns/native/crc.c",
    "tidewire/columns/native/columns.h",
    "tidewire/columns/native/reading.h",
    "sinks/postgres/native/copy.c",
    "sinks/gateway/native/push.c",
    "processors/features/native/fold.c",
    "processors/features/native/encode.c",
    "processors/features/native/features.h",
    "producers/native/frames.c",
    "producers/native/xxh3.c",
    "producers/native/frames.h",
    "producers/native/line.h",
    "producers/native/msgpack.h",
    "tidewire/native.py",
)
NATIVE = (
    "tidewire.columns.native.library",
    "sinks.postgres.native.library",
    "sinks.gateway.native.library",
    "processors.features.native.library",
    "producers.native.library",
)


class SetupError(Exception):
    """Set-up cannot go on; the message says why and what to do."""


def check_python(version: tuple[int, int]) -> None:
    """Refuse a Python that tidewire does not run on.

    Raises:
        SetupError: it is older than 3.11.
    """
    if version < NEEDED:
        raise SetupError(
            f"tidewire needs Python {NEEDED[0]}.{NEEDED[1]} or newer, this is {version[0]}.{version[1]} "
            f"({sys.executable}). Name another one: make setup PYTHON=python3.12"
        )


def fingerprint(root: Path, python: str) -> str:
    """What an installation is made from: another value when a file, the folder or the Python is another."""
    digest = hashlib.sha256(f"{root}\n{python}\n".encode())
    for name in INPUTS:
        content = (root / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def is_done(venv: Path, wanted: str) -> bool:
    """Whether the installation in `venv` was made from the same things, to its end."""
    stamp = venv / "tidewire-setup"
    try:
        return stamp.read_text() == wanted and (venv / "bin" / "tidewire").exists()
    except OSError:
        return False


def make_venv(venv: Path) -> None:
    """Make the virtual environment, anew if the one there does not work.

    Raises:
        SetupError: this Python cannot make one.
    """
    python = venv / "bin" / "python"
    probe = f"import sys, pip; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    if (
        python.exists()
        and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0
    ):
        return
    shutil.rmtree(venv, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", venv], check=False)
    if made.returncode:
        raise SetupError(
            f"`{sys.executable} -m venv` failed, see above. On Debian and Ubuntu: apt install python3-venv"
        )


def run(what: str, *command: str | Path) -> None:
    """Run a step, its progress on the terminal.

    Raises:
        SetupError: it failed.
    """
    print(f"-- {what}", flush=True)
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SetupError(f"{what}: failed, see above. `make setup` goes on from here once the cause is gone.")


def install(venv: Path, wanted: str) -> None:
    """All steps, the stamp last: without it the next run does them again."""
    stamp = venv / "tidewire-setup"
    stamp.unlink(missing_ok=True)
    print(
        f"Setting up tidewire in {ROOT}: downloads about {PACKAGES_MB} MB of Python packages (PostgreSQL, "
        f"Java and a compiler among them) and {KAFKA_MB} MB of Apache Kafka, less what is in the caches. "
        "Some minutes.",
        flush=True,
    )
    print("-- .venv", flush=True)
    make_venv(venv)
    python = venv / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--no-input")
    lock = ROOT / "requirements.lock"
    run("Python packages", *pip, "--no-deps", "--require-hashes", "--progress-bar", "on", "-r", lock)
    run("tidewire", *pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    run("native libraries", python, "-m", "tidewire.native", "--or-go-on", *NATIVE)
    run("Apache Kafka", python, "-m", "tidewire.stack", "fetch")
    stamp.write_text(wanted)


def main() -> int:
    """Set up; returns the exit code."""
    try:
        check_python(sys.version_info[:2])
        wanted = fingerprint(ROOT, f"{sys.executable} {platform.python_version()}")
        if is_done(ROOT / ".venv", wanted):
            print("tidewire is set up; nothing has changed.")
            return 0
        install(ROOT / ".venv", wanted)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; `make setup` goes on where it stopped.", file=sys.stderr)
        return 130
    print("tidewire is set up: `make demo`, or .venv/bin/tidewire --help")
    return 0


if __name__ == "__main__":
    sys.exit(main())
