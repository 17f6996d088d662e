"""Apache Kafka's jars: pinned by name and SHA-256 in `kafka-jars.lock`, fetched once, verified at each start.

The jars come from Maven Central through jgo and are kept in the user's cache folder, so that a second clone
and every later start need no network. To raise Kafka's version change `KAFKA` and write the lock anew::

    .venv/bin/python -m tidewire.stack write-lock
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tidewire.errors import StackError

Progress = Callable[[str], None]
"""Receives one line for the user each time something worth saying happens."""

LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Kafka brings log4j but nothing that joins it to slf4j 1.7: without this jar the broker logs nothing. It is
# added by itself, because resolved together with Kafka it would change versions that Kafka was tested with.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
_PARALLEL = 6
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: Maven coordinates `group:artifact:version`, size in bytes, SHA-256 in hex."""

    coordinates: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(path: Path = LOCK_FILE) -> list[Jar]:
    """The jars of the lock file, in its order.

    Raises:
        StackError: a line that is not `sha256 size group:artifact:version`.
    """
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 3 or len(fields[0]) != 64 or not fields[1].isdigit() or fields[2].count(":") != 2:
            raise StackError(f"{path}:{number}: not `sha256 size group:artifact:version`: {line!r}")
        jars.append(Jar(fields[2], int(fields[1]), fields[0]))
    return jars


def cache_folder(lock: Path = LOCK_FILE) -> Path:
    """Where the jars of this lock are kept: one folder for each set of jars."""
    digest = hashlib.sha256(" ".join(jar.sha256 for jar in read_lock(lock)).encode())
    return platformdirs.user_cache_path("tidewire") / f"kafka-{digest.hexdigest()[:12]}"


def bad_jars(jars: Iterable[Jar], folder: Path) -> list[Jar]:
    """Those of `jars` that are missing from `folder` or have other bytes than the lock says."""
    return [jar for jar in jars if not _is_good(folder / jar.name, jar)]


def classpath(progress: Progress = lambda _: None, lock: Path = LOCK_FILE) -> str:
    """Java's class path of a lock's verified jars; downloads what is missing.

    Raises:
        StackError: a download failed, or its bytes are not those of the lock.
    """
    jars, folder = read_lock(lock), cache_folder(lock)
    missing = bad_jars(jars, folder)
    if missing:
        _fetch(missing, folder, progress)
    return os.pathsep.join(str(folder / jar.name) for jar in jars)


def _is_good(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size and _sha256(path) == jar.sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(jars: list[Jar], folder: Path, progress: Progress) -> None:
    progress(f"downloading Apache Kafka: {len(jars)} jars, {sum(jar.size for jar in jars) / _MB:.0f} MB")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the folder, not in it: the last step is a rename, so a jar is there whole or not at all.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
            _fetch_all(jars, folder, Path(scratch), progress)
    except OSError as error:
        raise StackError(
            f"cannot download Apache Kafka to {folder}: {error}. "
            "Check the network and the free space; XDG_CACHE_HOME names another cache folder."
        ) from error


def _fetch_all(jars: list[Jar], folder: Path, scratch: Path, progress: Progress) -> None:
    total, done, said = sum(jar.size for jar in jars) // _MB, 0, 0
    with ThreadPoolExecutor(_PARALLEL) as pool:
        pending = {pool.submit(_fetch_one, jar, folder, scratch): jar for jar in jars}
        try:
            for future in as_completed(pending):
                future.result()
                done += pending[future].size
                if done // _MB > said:
                    said = done // _MB
                    progress(f"downloading Apache Kafka: {said} of {total} MB")
        except BaseException:  # Ctrl-C too: do not first download the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(jar: Jar, folder: Path, scratch: Path) -> None:
    from jgo.maven import MavenContext

    group, artifact, version = jar.coordinates.split(":")
    context = MavenContext(repo_cache=scratch, timeout=60)
    try:
        path: Path = context.project(group, artifact).at_version(version).artifact().resolve()
    except RuntimeError as error:  # jgo's way of saying "no repository has it"
        raise StackError(f"cannot download {jar.coordinates}: {error}") from error
    accept(path, jar, folder)


def accept(path: Path, jar: Jar, folder: Path) -> None:
    """Move a downloaded file into the cache, if it is what the lock says.

    Raises:
        StackError: its SHA-256 differs; the file is not taken over.
    """
    found = _sha256(path)
    if found != jar.sha256:
        raise StackError(
            f"{jar.name} was downloaded with SHA-256 {found}, but {LOCK_FILE.name} says {jar.sha256}. "
            "It was not used. Something between here and Maven Central changes files, or the lock is wrong."
        )
    os.replace(path, folder / jar.name)


def write_lock(
    path: Path = LOCK_FILE,
    wanted: str = KAFKA,
    also: Sequence[str] = (LOG_BINDING,),
    command: str = "python -m tidewire.stack write-lock",
) -> list[Jar]:
    """Resolve `wanted` with jgo, in a cache of its own, and write what was found as the new lock.

    The jars of `also` are added as they are, without what they depend on. `command` is named in the file.
    """
    import jgo
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as scratch:
        environment = jgo.build(wanted, cache_dir=Path(scratch))
        files = {file.name: file for file in environment.all_jars}
        resolved = LockFile.load(next(Path(scratch).rglob("jgo.lock.toml"))).dependencies
        jars = [
            _measured(f"{d.groupId}:{d.artifactId}:{d.version}", files.pop(f"{d.artifactId}-{d.version}.jar"))
            for d in resolved
        ]
        if files:
            raise StackError(f"jgo found jars that its lock does not name: {sorted(files)}")
        for coordinates in also:
            group, artifact, version = coordinates.split(":")
            file = MavenContext().project(group, artifact).at_version(version).artifact().resolve()
            jars.append(_measured(coordinates, file))
    lines = [
        f"{jar.sha256} {jar.size:>8} {jar.coordinates}" for jar in sorted(jars, key=lambda j: j.coordinates)
    ]
    head = (
        "# Apache Kafka's jars: SHA-256, size in bytes, Maven coordinates.\n"
        f"# Written by `{command}`: what {', and '.join((f'{wanted} needs', *also))}.\n"
    )
    path.write_text(head + "\n".join(lines) + "\n")
    return jars


def _measured(coordinates: str, file: Path) -> Jar:
    return Jar(coordinates, file.stat().st_size, _sha256(file))
