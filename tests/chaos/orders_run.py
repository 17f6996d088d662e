"""The area `orders` of `make chaos`: executor, exits service, broker and servers broken while exits fire.

By default one part, with as many kills as fit into ten minutes and as many zombies as fit into five.
CHAOS=full does it all, in parts, each on servers of its own, with several executors that die or stop at a
time: 1,000 kills over all failpoints, 200 zombies, 10,000 bad answers, 1,000 positions whose exits are
published 50 times. What was done is kept in build/chaos-orders.json: one that was broken off goes on there.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos import orders_scenario
from tests.chaos.orders_scenario import Part
from tests.chaos.run_state import RunState

STATE = Path("build/chaos-orders.json")
SMALL = (
    Part(
        kills=60, zombies=10, submits=300, duplicates=(50, 40), restarts=2, switches=2, exits_kills=4,
    ),
)  # fmt: skip
FULL = (
    *[Part(kills=200, restarts=4, switches=2, accounts=9, abreast=3, forked=True)] * 5,
    *[Part(zombies=50, accounts=16, symbols=1, partitions=8, abreast=7, forked=True)] * 4,
    *[Part(submits=2_000, switches=1, accounts=10, symbols=10, forked=True)] * 5,
    Part(duplicates=(50, 1_000), accounts=10, symbols=100, forked=True),
    *[Part(exits_kills=20)] * 2,
)
GOALS = {
    "kills": "executors killed", "zombies": "zombies woken", "submits": "bad answers", "switches": "switches",
}  # fmt: skip
NAMES = {
    "lost": "exits lost", "duplicated": "orders doubled", "above_held": "orders above the held quantity",
    "flipped": "positions turned round", "stale": "orders on stale data",
    "after_switch": "orders taken after the switch was confirmed",
    "not_durable": "orders without an older row in the ledger", "results_wrong": "results unlike the ledger",
}  # fmt: skip
_SECONDS = 1_200.0
Result = dict[str, object]
Tell = Callable[[str], None]


def run(seed: int, full: bool, tell: Tell, seconds: float) -> dict[str, Result]:
    """All results of the area, ready for chaos.json; a run that breaks is a result that says why.

    `seconds`: what the area may take, unless it is a full run.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its clients say at length that Kafka is away
    state = RunState.load(STATE, seed, full)
    parts = FULL if full else SMALL
    broken: str | None = None
    if state.outcomes:
        tell(f"going on after {len(state.outcomes)} parts, seed {state.seed}; delete {STATE} to begin anew")
    while broken is None and len(state.outcomes) < len(parts):
        number = len(state.outcomes)
        tell(f"part {number + 1} of {len(parts)}: {parts[number]}")
        try:
            with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as name:
                folder = Path(name)
                folder.chmod(0o755)  # below a private folder PostgreSQL's own user would not reach its data
                outcome = orders_scenario.play(
                    folder / "home", parts[number], state.seed + number, tell,
                    seconds=float("inf") if full else min(seconds, _SECONDS),
                )  # fmt: skip
            state.outcomes.append(outcome.numbers())
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"[:2_000]
        state.save(STATE)
    if broken is None:
        STATE.unlink(missing_ok=True)
    return results(state, parts, broken)


def results(state: RunState, parts: tuple[Part, ...], broken: str | None) -> dict[str, Result]:
    """What all parts together have found."""
    ran: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for one in state.outcomes:
        ran.update(one["ran"])
        seen.update(one["verdict"]["seen"])
    found = {f"orders.{name}": _none(state, name, unit) for name, unit in NAMES.items()}
    found["orders.unexplained"] = _complaints(
        [text for one in state.outcomes for text in one["unexplained"]],
        "triggers that do not give themselves again",
        judged=ran["triggers judged again"],
    )
    found["orders.crashed"] = _complaints(
        [text for one in state.outcomes for text in one["crashed"]], "processes that ended by themselves"
    )
    done = {
        "kills": sum(count for what, count in ran.items() if what.startswith("kill at ")),
        "zombies": ran["zombies"],
        "submits": ran["bad answers"],
        "switches": ran["switches"],
    }
    for name, unit in GOALS.items():
        goal = sum(getattr(part, name) for part in parts)
        ok = done[name] >= goal if state.full else done[name] > 0
        found[f"orders.{name}"] = {"value": done[name], "unit": unit, "goal": goal, "ok": ok}
    found["orders.seen"] = {
        "value": seen["orders"], "unit": "orders looked at", "ok": seen["orders"] > 0,
        "ran": dict(ran), "seen": dict(seen), "seconds": sum(one["seconds"] for one in state.outcomes),
    }  # fmt: skip
    if broken is not None:
        found["orders.run"] = {"value": None, "unit": "", "ok": False, "reason": broken, "seed": state.seed}
    return found


def _none(state: RunState, name: str, unit: str) -> Result:
    return _complaints([text for one in state.outcomes for text in one["verdict"][name]], unit)


def _complaints(texts: list[str], unit: str, **more: Any) -> Result:
    first = [text[:1_000] for text in texts[:5]]
    return {"value": len(texts), "unit": unit, "goal": 0, **more, "first": first, "ok": not texts}
