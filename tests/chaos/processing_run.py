"""The area `processing` of `make chaos`: processors, sink and Kafka broken while ticks of files are folded.

By default one run of up to ten minutes, with as many of 100 joins and leaves as fit. CHAOS=full makes five
runs of 100, with 20 kills of processors among them, and the recorded ticks of ../shared/data/lean where they
are; what was done is kept in build/chaos-processing.json, so that one that was broken off goes on there.
Of a run that has found something the verdict and the logs of all processes are kept, in build/chaos-runs/.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos import processing_scenario, tick_files
from tests.chaos.processing_scenario import Outcome
from tests.chaos.run_state import RunState

STATE = Path("build/chaos-processing.json")
KEPT = Path("build/chaos-runs")
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "lean"
CHANGES, KILLS, SINK_KILLS, KAFKA_KILLS = 100, 4, 2, 1
FULL_RUNS = 5
_SECONDS = 420.0
"""For the steps of a run; the beginning and the end come on top."""
_SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH")
_EACH = 2_500
Result = dict[str, object]
Tell = Callable[[str], None]


def run(seed: int, full: bool, tell: Tell, seconds: float) -> dict[str, Result]:
    """All results of the area, ready for chaos.json; a run that breaks is a result that says why.

    `seconds`: what the area may take, unless it is a full run.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its clients say at length that Kafka is away
    state = RunState.load(STATE, seed, full)
    broken: str | None = None
    if state.outcomes:
        tell(f"going on after {len(state.outcomes)} runs, seed {state.seed}; delete {STATE} to begin anew")
    while broken is None and len(state.outcomes) < (FULL_RUNS if full else 1):
        try:
            state.outcomes.append(_one(state, tell, min(_SECONDS, seconds)).numbers())
        except Exception as error:
            broken = str(error)[:2_000]
        state.save(STATE)
    if broken is None:
        STATE.unlink(missing_ok=True)
    return results(state, broken)


def _one(state: RunState, tell: Tell, seconds: float) -> Outcome:
    seed = state.seed + len(state.outcomes)
    chosen = processing_scenario.steps(seed, CHANGES, KILLS, SINK_KILLS, KAFKA_KILLS)
    tell(f"run {len(state.outcomes) + 1}: {len(chosen)} steps, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # below a private folder PostgreSQL's own user would not reach its data
        folders = ticks(folder / "ticks", seed)
        if state.full and RECORDED.is_dir():
            folders.append(RECORDED)
        limit = float("inf") if state.full else seconds
        rate = 12_000 if state.full else 2_000
        outcome = processing_scenario.play(folder / "home", folders, chosen, seed, tell, rate, limit)
        if faults := _faults(outcome.numbers()):
            kept = _keep(folder / "home", seed, outcome)
            tell(f"seed {seed}: {faults} faults; verdict and logs are in {kept}")
        return outcome


def _faults(numbers: dict[str, Any]) -> int:
    """How many things of a run are not as they should be."""
    verdict = numbers["verdict"]
    texts = [verdict[key] for key in ("wrong", "letters", "uncounted")]
    texts += [numbers[key] for key in ("uncounted", "flood", "crashed")]
    return sum(map(len, texts)) + int(verdict["missing"]) + int(verdict["extra"])


def _keep(home: Path, seed: int, outcome: Outcome) -> Path:
    """Copy what is needed to find out why; the stack's own data is not."""
    kept = KEPT / f"processing-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    (kept / "outcome.json").write_text(json.dumps(outcome.numbers(), indent=1) + "\n")
    for log in home.glob("*.log"):
        shutil.copy(log, kept)
    return kept


def ticks(folder: Path, seed: int, symbols: tuple[str, ...] = _SYMBOLS, each: int = _EACH) -> list[Path]:
    """Made-up tick files of two days; returns their folders."""
    for day in ("20131007", "20131008"):
        tick_files.write(folder, symbols, each, each, seed + int(day), day)
    return [folder]


# -- results


def _result(value: object, unit: str, ok: bool, **more: object) -> Result:
    return {"value": value, "unit": unit, **more, "ok": ok}


def _none(found: list[str], unit: str, **more: object) -> Result:
    return _result(len(found), unit, not found, goal=0, **more, first=[text[:1_000] for text in found[:5]])


def results(state: RunState, broken: str | None) -> dict[str, Result]:
    """What all runs together have found."""
    name = "processing"
    if broken is not None:
        return {f"{name}.run": _result(None, "", False, reason=broken, seed=state.seed)}

    def every(key: str) -> list[str]:
        return [text for one in state.outcomes for text in one[key]]

    def verdicts(key: str) -> list[str]:
        return [text for one in state.outcomes for text in one["verdict"][key]]

    def total(key: str) -> int:
        return sum(one["verdict"][key] for one in state.outcomes)

    ran: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for one in state.outcomes:
        ran.update(one["ran"])
        seen.update(one["verdict"]["seen"])
    worst: dict[str, float] = {}
    for one in state.outcomes:
        worst |= {what: max(took, worst.get(what, 0.0)) for what, took in one["recovery"].items()}
    faulty = [state.seed + number for number, one in enumerate(state.outcomes) if _faults(one)]
    changes, wanted = ran["join"] + ran["leave"], CHANGES * len(state.outcomes)
    missing, extra = total("missing"), total("extra")
    return {
        f"{name}.wrong_values": _none(
            verdicts("wrong"), "values of changelog and features", **seen, faulty_seeds=faulty
        ),
        f"{name}.rows_missing": _result(missing, "rows of PostgreSQL", missing == 0, goal=0),
        f"{name}.rows_extra": _result(extra, "rows of PostgreSQL", extra == 0, goal=0),
        f"{name}.dead_letters_wrong": _none(verdicts("letters"), "dead letters", repeated=total("repeated")),
        f"{name}.uncounted": _none(every("uncounted") + verdicts("uncounted"), "sums that do not add up"),
        f"{name}.flood": _none(every("flood"), "complaints about the end in a flood of poison"),
        f"{name}.crashed": _none(every("crashed"), "processes that ended by themselves"),
        f"{name}.joins_and_leaves": _result(
            changes, "joins and leaves", changes == wanted or not state.full, goal=wanted, ran=dict(ran)
        ),
        f"{name}.recovered_within": _result(
            max(worst.values(), default=0.0), "s", True, by_kind=worst, runs=len(state.outcomes)
        ),
    }
