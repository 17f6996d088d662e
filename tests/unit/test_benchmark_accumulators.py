"""If these fail, ours is not measured doing what Kafka Streams does, or a missing peer stops the rest."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import accumulators
from benchmarks.peers import comparison, java, naive, state
from benchmarks.peers.trades import trades
from benchmarks.results import Benchmark, Sample
from benchmarks.servers import Servers
from processors.columns.matrix import Matrix
from tidewire.stack import jars

SERVERS = Servers("nowhere:1", "", "t.", Path("/nonexistent"))


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 300), max_size=6), again=st.integers(0, 300))
def test_the_fold_is_that_of_one_trade_after_the_other(cuts: list[int], again: int) -> None:
    """However the trades are cut into batches, and if part of them is read again."""
    found = list(trades(300, 7))
    expected: state.State = {}
    for trade in found:
        expected[trade["symbol"]] = naive.add(expected.get(trade["symbol"]), trade)
    matrix = Matrix(accumulators.WIDTH)
    edges = sorted({0, *cuts, 300})
    batches = [*pairwise(edges), (again, 300)]
    frame = pl.DataFrame([{name: t[name] for name in accumulators.COLUMNS} for t in found])
    applied = sum(accumulators.fold(matrix, frame[a:b], np.arange(a, b, dtype=np.int64)) for a, b in batches)
    assert applied == 300
    rows = {matrix.name(row).decode(): matrix.values[row] for row in range(len(matrix))}
    assert {symbol: row[accumulators.TRADES :].tolist() for symbol, row in rows.items()} == expected


def test_states_that_differ_are_named() -> None:
    """A comparison of unlike results must not look like a good figure."""
    one = {"A": [1, 2], "B": [3, 4]}
    assert state.difference(one, {"A": [1, 2], "B": [3, 4]}) is None
    assert "B [3, 4], the other [3, 5]" in str(state.difference(one, {"A": [1, 2], "B": [3, 5]}))
    assert "B in ours" in str(state.difference(one, {"A": [1, 2]}))
    assert state.difference({}, {}) == "ours is empty"


def test_without_a_jdk_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not a traceback about a file that was not found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(java.PeerMissingError, match="install a JDK"):
        java.compiler()


def test_a_jdk_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kafka Streams of this release would fail with an unreadable error about class versions."""
    javac = tmp_path / "bin" / "javac"
    javac.parent.mkdir()
    javac.write_text("#!/bin/sh\necho javac 11.0.2\n")
    javac.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(java.PeerMissingError, match=r"version 11\.0\.2"):
        java.compiler()


def test_kafka_streams_is_of_the_release_of_the_stack_s_kafka() -> None:
    """Another release's clients would be measured."""
    pinned = [jar.coordinates for jar in jars.read_lock(java.LOCK)]
    release = jars.KAFKA.rsplit(":", 1)[1]
    assert f"org.apache.kafka:kafka-streams:{release}" in pinned
    assert f"org.apache.kafka:kafka-clients:{release}" in pinned


def test_a_missing_peer_voids_its_own_comparison_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a JDK still measures everything else."""
    runs = comparison.Runs()
    runs.samples[comparison.OURS].append(Sample(100, 1.0, 1.0))
    runs.samples[comparison.FETCH].append(Sample(100, 1.0, 4.0))
    runs.void[comparison.STREAMS] = "no javac: install a JDK"
    peers = comparison.Peers()
    peers.keep(comparison.HUNDRED, runs)
    streams, fetch = (
        Benchmark(name, "what", "x", 1.0, "more", partial(peers.ratio(comparison.HUNDRED, name), SERVERS))
        for name in (comparison.STREAMS, comparison.FETCH)
    )
    missing, measured = streams.run(1, print), fetch.run(1, print)
    assert (missing.ok, missing.reason) == (False, "no javac: install a JDK")
    assert (measured.ok, measured.value) == (True, 4.0)
