"""Kafka's jars are what the lock names, or they are not used: code that we run with the user's rights."""

import hashlib
from pathlib import Path

import pytest

from tidewire.errors import StackError
from tidewire.stack import jars
from tidewire.stack.jars import Jar


def jar_of(content: bytes, name: str = "org.example:part:1.0") -> Jar:
    return Jar(name, len(content), hashlib.sha256(content).hexdigest())


def test_a_download_with_other_bytes_is_refused_and_not_kept(tmp_path: Path) -> None:
    """A tampered jar in the cache would run at every later start."""
    cache = tmp_path / "cache"
    cache.mkdir()
    download = tmp_path / "part-1.0.jar"
    download.write_bytes(b"something else")
    with pytest.raises(StackError, match=r"part-1\.0\.jar was downloaded with SHA-256") as refused:
        jars.accept(download, jar_of(b"as published"), cache)
    assert hashlib.sha256(b"as published").hexdigest() in str(refused.value)
    assert list(cache.iterdir()) == []


def test_a_good_download_is_kept_under_its_name(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / "x").write_bytes(b"as published")
    jar = jar_of(b"as published")
    jars.accept(tmp_path / "x", jar, cache)
    assert (cache / "part-1.0.jar").read_bytes() == b"as published"
    assert jars.bad_jars([jar], cache) == []


@pytest.mark.parametrize("found", [None, b"", b"as publishe", b"as published!", b"as_published"])
def test_missing_cut_off_and_changed_jars_are_found_at_every_start(
    tmp_path: Path, found: bytes | None
) -> None:
    """A cache that lost a block on disk must not become a broker that fails in strange ways."""
    good, other = jar_of(b"fine", "a:fine:1"), jar_of(b"as published")
    (tmp_path / good.name).write_bytes(b"fine")
    if found is not None:
        (tmp_path / other.name).write_bytes(found)
    assert jars.bad_jars([good, other], tmp_path) == [other]


@pytest.mark.parametrize(
    "line", ["abc 12 a:b:1", f"{'0' * 64} x a:b:1", f"{'0' * 64} 12 a:b", f"{'0' * 64} 12"]
)
def test_a_broken_lock_names_its_line(tmp_path: Path, line: str) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(f"# comment\n{line}\n")
    with pytest.raises(StackError, match=r"some\.lock:2: not"):
        jars.read_lock(lock)


def test_the_lock_pins_the_kafka_that_we_say() -> None:
    """A version raised in the code alone would go unnoticed: the old Kafka would still run."""
    pinned = [jar.coordinates for jar in jars.read_lock()]
    assert jars.KAFKA in pinned
    assert jars.LOG_BINDING in pinned
    assert len(pinned) == len(set(pinned)) > 40


def test_another_set_of_jars_has_another_folder(tmp_path: Path) -> None:
    """After an update the old jars are not on the class path beside the new ones."""
    lock = tmp_path / "some.lock"
    lock.write_text(f"{'0' * 64} 12 a:b:1\n")
    before = jars.cache_folder(lock)
    lock.write_text(f"# a comment changes nothing\n{'0' * 64} 12 a:b:1\n")
    assert jars.cache_folder(lock) == before
    lock.write_text(f"{'1' * 64} 12 a:b:1\n")
    assert jars.cache_folder(lock) != before
