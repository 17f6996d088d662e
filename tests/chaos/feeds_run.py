"""The area `feeds` of `make chaos`: rounds of faults over demos of their own, the fuzz, clocks that disagree.

By default one demo of a few minutes. CHAOS=full goes on, demo after demo, to 500 cuts and 100 mutes; what was
reached is kept with its seed in build/chaos-feeds.json, so that a full run that was broken off goes on there.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos import feeds_fuzz, feeds_scenario, feeds_skew, feeds_steps
from tests.chaos.feeds_session import FeedsOutcome, Step
from tests.chaos.feeds_skips import Skip, skips
from tests.chaos.run_state import RunState

STATE = Path("build/chaos-feeds.json")
FUZZED = 100_000
FULL_CUTS, FULL_MUTES = 500, 100
MEMORY_BYTES = 50 << 20
_END_SECONDS = 360.0
"""For the last step, the report, the counting, and the fuzz."""
Result = dict[str, object]
Tell = Callable[[str], None]

_XOM: Mapping[str, Any] = {"kind": "refuse_symbols", "symbols": ["XOM"], "code": 405}
_DROPPED = (
    Skip("stocks", "trades", 12, every=25),
    Skip("stocks", "bars", 4),
    Skip("crypto", "trades", 4),
    Skip("crypto", "bars", 1),
    Skip("news", "news", 6, every=2),
    Skip("trading", "fill", 4, every=2),
)


class State(RunState):
    """The demos that were played to their end, and sums over them."""

    def total(self, name: str) -> float:
        """The sum of a number over the demos."""
        return sum(outcome[name] or 0 for outcome in self.outcomes)

    def most(self, name: str) -> float | None:
        """The greatest of a number over the demos; None: there is none."""
        return max((o[name] for o in self.outcomes if o[name] is not None), default=None)

    def ran(self, what: str) -> int:
        """How often something was done."""
        return sum(int(outcome["ran"].get(what, 0)) for outcome in self.outcomes)

    def by_name(self, name: str) -> dict[str, float]:
        """Numbers by name, the greatest of all demos."""
        found: dict[str, float] = {}
        for outcome in self.outcomes:
            for key, value in outcome[name].items():
                found[key] = max(value, found.get(key, 0))
        return found

    def summed(self, name: str) -> dict[str, int]:
        """Numbers by name, summed over all demos."""
        found: dict[str, int] = {}
        for outcome in self.outcomes:
            for key, value in outcome[name].items():
                found[key] = found.get(key, 0) + value
        return found


def run(seed: int, full: bool, tell: Tell, seconds: float) -> dict[str, Result]:
    """All results of the area, ready for chaos.json; a demo that breaks is a result that says why.

    `seconds`: what the area may take, unless it is a full run.
    """
    seconds = float("inf") if full else max(0.0, seconds - _END_SECONDS)
    state = State.load(STATE, seed, full)
    broken: list[str] = []
    if state.outcomes:
        tell(f"going on after {len(state.outcomes)} demos, seed {state.seed}; delete {STATE} to begin anew")
    while not broken and not _enough(state):
        try:
            state.outcomes.append(_demo(state, tell, seconds).numbers())
        except Exception as error:
            broken.append(str(error)[:500])
        state.save(STATE)
    results = of_demos(state, broken) | _fuzzed(seed) | _skewed(seed)
    if not broken:
        STATE.unlink(missing_ok=True)
    return results


def _enough(state: State) -> bool:
    if not state.full:
        return bool(state.outcomes)
    return state.total("cuts") >= FULL_CUTS and state.ran("mute") >= FULL_MUTES


def _demo(state: State, tell: Tell, seconds: float) -> FeedsOutcome:
    number = len(state.outcomes)
    seed = state.seed + number
    steps = every_fault(seed) if number == 0 else cuts_and_mutes(seed)
    tell(f"demo {number + 1}: {len(steps)} steps, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as folder:
        return feeds_scenario.play(Path(folder), steps, seed, tell, seconds=seconds)


def every_fault(seed: int) -> list[Step]:
    """Each kind of fault at least once, in an order made from the seed; the silent losses come first."""
    cuts, mute, refused = feeds_steps.cuts, feeds_steps.mute, feeds_steps.refused
    ends, harmless, kill = feeds_steps.ends, feeds_steps.harmless, feeds_steps.kill
    steps = [
        *(cuts() for _ in range(8)),
        *(mute(venue) for venue in ("stocks", "stocks", "crypto")),
        ends("outage", "stocks", kind="outage", seconds=6),
        ends("slow client (407)", "stocks", kind="error", code=407, close=True),
        refused("429 at the handshake", "stocks", {"kind": "refuse_http", "code": 429, "retry_after": 3}),
        refused("406", "stocks", {"kind": "refuse_auth", "code": 406}),
        refused("406 for 12 s", "crypto", {"kind": "hold", "seconds": 12}),
        refused("405 of a symbol", "stocks", _XOM, undo={"kind": "refuse_symbols"}),
        refused("429 at REST", "stocks", {"kind": "status_http", "code": 429, "count": 3, "retry_after": 2}),
        refused("503 at REST", "crypto", {"kind": "status_http", "code": 503, "count": 4}),
        refused("503 at the broker", "trading", {"kind": "status_http", "code": 503, "count": 3}),
        harmless("reorder", "stocks", kind="reorder", frames=30, window=8, seed=seed % 1000),
        harmless("delay", "stocks", kind="delay", seconds=2),
        harmless("truncated copy", "stocks", kind="truncate", frames=5, extra=True),
        harmless("malformed", "stocks", kind="malformed", frames=5),
        harmless("malformed crypto", "crypto", kind="malformed", frames=3),
        harmless("malformed options", "options", kind="malformed", frames=3),
        harmless("huge", "stocks", kind="huge", frames=2),
        harmless("repeat news", "news", kind="repeat", frames=2),
        harmless("repeat fills", "trading", kind="repeat", frames=3),
        *(kill(name) for name in ("producer", "kafka", "accounts", "backfiller", "producer")),
    ]
    random.Random(seed).shuffle(steps)
    return [skips(_DROPPED), *steps]


def cuts_and_mutes(seed: int) -> list[Step]:
    """What a full run is made of: 20 cuts of all sockets, 26 mutes, in an order made from the seed."""
    steps = [feeds_steps.cuts() for _ in range(20)]
    steps += [feeds_steps.mute("stocks", "crypto") for _ in range(13)]
    random.Random(seed).shuffle(steps)
    return steps


# -- results


def _result(value: object, unit: str, ok: bool, **more: object) -> Result:
    return {"value": value, "unit": unit, **more, "ok": ok}


def _most(state: State, name: str, goal: float, **more: object) -> Result:
    value = state.most(name)
    return _result(value, "s", value is not None and value <= goal, goal=goal, **more)


def _none(value: float, unit: str, **more: object) -> Result:
    return _result(int(value), unit, not value, goal=0, **more)


def of_demos(state: State, broken: list[str]) -> dict[str, Result]:
    """What the demos came to; `broken`: why one did not come to its end."""
    if broken and not state.outcomes:
        return {"feeds.demo": _result(None, "", False, reason=broken[0], seed=state.seed)}
    cuts, mutes = int(state.total("cuts")), state.ran("mute")
    wrong = [text for outcome in state.outcomes for text in outcome["wrongly_named"]]
    incomplete = sum(not outcome["complete"] for outcome in state.outcomes)
    problems = [text for outcome in state.outcomes for text in outcome["problems"]]
    skipped, repaired = state.summed("skipped"), state.summed("repaired")
    within = state.by_name("repaired_within")
    found: dict[str, Result] = {
        "feeds.events_lost": _none(
            state.total("lost_with_history"), "trades, quotes, articles", cuts=cuts, seed=state.seed
        ),
        "feeds.fills_lost": _none(state.total("lost_fills"), "fills", cuts=cuts),
        "feeds.wrongly_named": _none(len(wrong), "events", first=wrong[:5], named=state.summed("lost")),
        "feeds.incomplete_reports": _none(
            incomplete, "reports", problems=problems[:5], ran=state.summed("ran")
        ),
        "feeds.reconnected_beyond_backoff": _most(state, "over_backoff_max", 2.0, cuts=cuts),
        "feeds.gap_closed_within": _result(state.most("gap_seconds_max"), "s", True),
        "feeds.mute_found_within": _most(state, "mutes_found_max", 30.0, mutes=mutes),
        "feeds.restarted_within": _result(state.by_name("restarts"), "s", True),
        "feeds.left_running": _none(sum(len(o["left_running"]) for o in state.outcomes), "processes"),
    }
    for name, count in skipped.items():
        back = repaired.get(name, 0)
        found[f"feeds.silently_dropped.{name.replace(' ', '_')}"] = _result(
            back,
            "repaired",
            back == count and within.get(name, float("inf")) <= 120,
            goal=count,
            within_s=within.get(name),
        )
    if broken:
        found["feeds.broken"] = _result(None, "", False, reason=broken[0], seed=state.seed)
    return found


def _fuzzed(seed: int) -> dict[str, Result]:
    tally = feeds_fuzz.fuzz(FUZZED, seed)
    seen = {name: value for name, value in asdict(tally).items() if name not in ("crashes", "wrong")}
    return {
        "feeds.fuzz_crashes": _none(len(tally.crashes), "frames", first=tally.crashes[:3], **seen),
        "feeds.fuzz_unaccounted": _none(len(tally.wrong), "frames", first=tally.wrong[:3]),
        "feeds.fuzz_memory": _result(
            round(tally.grown_bytes / (1 << 20), 1), "MiB", tally.grown_bytes < MEMORY_BYTES, goal=50
        ),
    }


def _skewed(seed: int) -> dict[str, Result]:
    missed, bare = feeds_skew.uncovered(20, seed)
    return {"feeds.clock_skew_uncovered": _none(bare, "events", missed=missed, skews_s=feeds_skew.SKEWS)}
