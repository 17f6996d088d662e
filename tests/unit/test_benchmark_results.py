"""If these fail, build/bench.json calls a goal reached that was missed or never measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import market
from benchmarks.process import ROOT
from benchmarks.results import Benchmark, Result, Sample, compared, write


def measured(_: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    say("half way")
    return 2.5, {"runs": 3.0}


def broken(_: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    raise RuntimeError("no Kafka here")


@pytest.mark.parametrize(
    ("value", "goal", "better", "ok"),
    [
        (2.0, 2.0, "more", True),
        (1.9, 2.0, "more", False),
        (99.0, 100.0, "less", True),
        (101.0, 100.0, "less", False),
    ],
)
def test_a_goal_is_reached_or_not(value: float, goal: float, better: str, ok: bool) -> None:
    assert Result("x", value, "s", goal, better).ok is ok  # type: ignore[arg-type]


def test_a_benchmark_that_fails_is_not_ok_and_says_why() -> None:
    result = Benchmark("x", "what", "s", 1.0, "more", broken).run(1, lambda _: None)
    assert result.as_json() == {
        "value": None, "unit": "s", "goal": 1.0, "ok": False, "reason": "no Kafka here",
    }  # fmt: skip


def test_a_measured_one_has_value_unit_goal_and_ok() -> None:
    said: list[str] = []
    result = Benchmark("x", "what", "s", 1.0, "more", measured).run(1, said.append)
    assert result.as_json() == {"value": 2.5, "unit": "s", "goal": 1.0, "ok": True, "details": {"runs": 3.0}}
    assert said == ["half way"]


def test_the_file_keeps_what_was_not_run_this_time(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    write([Result("a", 1.0, "s", 1.0), Result("b", 1.0, "s", 1.0)], path)
    write([Result("b", None, "s", 1.0, reason="why")], path)
    body = json.loads(path.read_text())
    assert body["a"]["ok"] is True
    assert (body["b"]["ok"], body["b"]["reason"]) == (False, "why")


def test_sides_are_compared_by_medians_per_cpu_second() -> None:
    ours = [Sample(100, 1.0, 2.0), Sample(100, 1.0, 1.0), Sample(100, 9.0, 0.5)]
    reference = [Sample(100, 2.0, 4.0)]
    value, details = compared(ours, reference)
    assert value == 4.0
    assert (details["ours_per_s"], details["reference_per_s"], details["ratio_wall"]) == (100, 50, 2.0)


def test_the_command_writes_every_chosen_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A benchmark that fails must not hide the others, and must show in the exit code."""
    known = [
        Benchmark("good", "what", "s", 1.0, "more", measured),
        Benchmark("bad", "what", "s", 1.0, "more", broken),
    ]
    monkeypatch.setattr(command, "catalogue", lambda shared: known)
    report = tmp_path / "bench.json"
    assert command.main([], report) == 1
    assert {n: e["ok"] for n, e in json.loads(report.read_text()).items()} == {"good": True, "bad": False}
    assert command.main(["good"], report) == 0
    assert "no Kafka here" in capsys.readouterr().err


def test_an_unknown_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["nonsense"], tmp_path / "bench.json")
    assert ended.value.code == 2
    assert "ingest" in capsys.readouterr().err


def test_the_documents_say_what_each_benchmark_measures() -> None:
    """A goal that nobody can look up, or a row about a benchmark that is gone."""
    with ExitStack() as stack:
        names = {b.name for b in command.catalogue(command.Shared(stack, print))}
    before_figures = (ROOT / "docs" / "performance.md").read_text("utf-8").partition("## Figures")[0]
    rows = [line.split("|")[1] for line in before_figures.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names


def test_made_up_ticks_have_as_many_messages_as_they_say(tmp_path: Path) -> None:
    count = market.write_ticks(tmp_path, 1_200)
    lines = {p.name: p.read_text().count("\n") - 1 for p in tmp_path.iterdir()}
    trades = sum(n for name, n in lines.items() if "trade" in name)
    quotes = sum(n for name, n in lines.items() if "quote" in name)
    assert trades + quotes // 2 == count == 1_200
