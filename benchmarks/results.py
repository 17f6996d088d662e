"""What a benchmark gives: one number with its unit and goal, and the lines that explain it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Result:
    """One line of build/bench.json. `value` None: not measured, for the `reason`."""

    name: str
    value: float | None
    unit: str
    goal: float
    better: Literal["more", "less"] = "more"
    reason: str | None = None
    details: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the goal was reached; what was not measured has not reached it."""
        if self.value is None or self.reason is not None:
            return False
        return self.value >= self.goal if self.better == "more" else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """Its entry in the file."""
        entry: dict[str, Any] = {"value": self.value, "unit": self.unit, "goal": self.goal, "ok": self.ok}
        if self.reason is not None:
            entry["reason"] = self.reason
        if self.details:
            entry["details"] = self.details
        return entry


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark before it is run. `measure` gets the number of repetitions and a way to say where it is."""

    name: str
    what: str
    unit: str
    goal: float
    better: Literal["more", "less"]
    measure: Callable[[int, Callable[[str], None]], tuple[float, dict[str, float]]]
    """Returns the value and details. May raise anything: then the result has a reason instead of a value."""

    def run(self, repetitions: int, say: Callable[[str], None]) -> Result:
        """Measure; a failure becomes a result that says why."""
        try:
            value, details = self.measure(repetitions, say)
        except Exception as error:  # whatever it is, the other benchmarks still run
            return Result(self.name, None, self.unit, self.goal, self.better, _why(error))
        return Result(self.name, round(value, 3), self.unit, self.goal, self.better, None, details)


def _why(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 500 else f"...{text[-500:]}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one side: records, wall seconds, CPU seconds (user and system) of what counts."""

    records: int
    wall: float
    cpu: float


def rates(name: str, samples: Iterable[Sample]) -> dict[str, float]:
    """Median records per second and per CPU-second of one side."""
    runs = list(samples)
    return {
        f"{name}_per_s": round(median(s.records / s.wall for s in runs)),
        f"{name}_per_cpu_s": round(median(s.records / s.cpu for s in runs)),
    }


def compared(ours: list[Sample], reference: list[Sample]) -> tuple[float, dict[str, float]]:
    """The ratio ours / reference of the medians per CPU-second, with all figures; the machine may be busy."""
    details = rates("ours", ours) | rates("reference", reference)
    details["ratio_wall"] = round(details["ours_per_s"] / details["reference_per_s"], 3)
    return details["ours_per_cpu_s"] / details["reference_per_cpu_s"], details


def write(results: Iterable[Result], path: Path) -> None:
    """Write build/bench.json; entries of benchmarks that were not run this time stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    known |= {r.name: r.as_json() for r in results}
    path.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
