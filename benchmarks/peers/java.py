"""The machine's JDK and Kafka Streams' pinned jars: compiles a Java file once and runs it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tidewire.errors import StackError
from tidewire.stack import jars

LOCK = Path(__file__).with_name("streams-jars.lock")
STREAMS = f"org.apache.kafka:kafka-streams:{jars.KAFKA.rsplit(':', 1)[1]}"
"""The release of the local stack's Kafka."""
_OLDEST = 17
_PATIENCE_SECONDS = 300


class PeerMissingError(Exception):
    """A program to compare with cannot be run on this machine; the text says what is needed."""


class PeerFailedError(Exception):
    """A program to compare with ended with an error; the text is the end of what it said."""


def compiler() -> Path:
    """The JDK's javac: that of JAVA_HOME, else the one on the PATH.

    Raises:
        PeerMissingError: there is none, or it is too old for Kafka.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("javac", path=f"{home}/bin") if home else None
    found = found or shutil.which("javac")
    if found is None:
        raise PeerMissingError(f"no javac: install a JDK ({_OLDEST} or newer), or set JAVA_HOME to one")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = (said.stdout + said.stderr).split()[-1:] or ["?"]
    major = version[0].split(".")[0]
    if not major.isdigit() or int(major) < _OLDEST:
        raise PeerMissingError(f"{found} is version {version[0]}: a JDK of {_OLDEST} or newer is needed")
    return Path(found).resolve()


def class_path() -> str:
    """Kafka Streams' verified jars; downloads what is missing.

    Raises:
        PeerMissingError: they cannot be downloaded.
    """
    try:
        return jars.classpath(lock=LOCK)
    except StackError as error:
        raise PeerMissingError(f"Kafka Streams is not here: {error}") from error


def compiled(source: Path, cache: Path) -> list[str]:
    """The start of a command that runs `source`'s main class; its classes are kept in `cache`.

    Raises:
        PeerMissingError: no JDK, or no jars.
        PeerFailedError: it does not compile.
    """
    javac, path = compiler(), class_path()
    digest = hashlib.sha256(source.read_bytes() + path.encode()).hexdigest()[:12]
    classes = cache / f"{source.stem}-{digest}"
    if not (classes / f"{source.stem}.class").exists():
        _execute(
            [
                str(javac),
                "-cp",
                path,
                "-Xlint:all,-processing,-classfile",
                "-Werror",
                "-d",
                str(classes),
                str(source),
            ]
        )
    java = javac.with_name("java")
    return [str(java), "-cp", os.pathsep.join((str(classes), path))]


def run(command: list[str], *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Run a compiled program to its end; returns what it printed.

    Raises:
        PeerFailedError: it ended with an error, or not at all.
    """
    java, *rest = command
    main = Path(rest[1].split(os.pathsep)[0]).name.rsplit("-", 1)[0]
    return _execute([java, *options, *rest, main, *arguments])


def _execute(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerFailedError(f"{Path(command[0]).name} did not end within {_PATIENCE_SECONDS} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-800:]
        raise PeerFailedError(f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return done.stdout
