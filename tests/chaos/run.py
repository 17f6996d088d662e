"""`make chaos [AREA=...]`: the full cycles, seeded; prints each and writes build/chaos.json.

Areas: processor, sink, kafka, postgres, producer, accounts, feeds, processing, orders, all. CHAOS=full kills
five times as often, goes to 500 cuts and 100 mutes of the feeds, to 500 joins and leaves and 20 kills of
processors, and to 1,000 kills of the executor; broken off in one of these three, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.chaos import account_scenario, feeds_run, orders_run, processing_run, scenarios, sink_scenario

AREAS = ("processor", "sink", "kafka", "postgres", "producer", "accounts", "feeds", "processing", "orders")
BUDGET_SECONDS = 30 * 60
OUTPUT = Path("build/chaos.json")
Result = dict[str, object]


def survive(area: str, kills: int, seed: int, folder: Path) -> tuple[scenarios.Outcome, int]:
    """Kill `area` that often within one run of the line; returns the outcome and what was left unnamed."""
    outcome = scenarios.kill_in_turn(folder, (area,) * kills, 15_000 * (kills + 1), seed, tell=print)
    if area != "producer":
        return outcome, outcome.missing
    lost, named = scenarios.sent_but_not_stored(folder / "home"), scenarios.named(folder / "home")
    unnamed = (lost - named) + (named - lost)
    kept = Counter(event for event in lost.elements() if event[0] in ("trades", "quotes"))
    return outcome, unnamed.total() + kept.total() + outcome.missing  # trades and quotes have a history


def run_area(area: str, kills: int, seed: int, seconds: float) -> dict[str, Result]:
    """One area's results, ready for chaos.json; a run that breaks is a result that says why. `seconds` is the
    time that is left.
    """
    if area == "accounts":
        return run_accounts(kills, seed)
    if area == "feeds":
        return feeds_run.run(seed, os.environ.get("CHAOS") == "full", partial(print, flush=True), seconds)
    if area == "processing":
        return processing_run.run(
            seed, os.environ.get("CHAOS") == "full", partial(print, flush=True), seconds
        )
    if area == "orders":
        return orders_run.run(seed, os.environ.get("CHAOS") == "full", partial(print, flush=True), seconds)
    what = "events_wrongly_named" if area == "producer" else "events_missing"
    name = f"kill_{area}.{what}"
    try:
        with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as folder:
            outcome, wrong = survive(area, kills, seed, Path(folder))
    except Exception as error:
        return {name: {"value": None, "unit": "events", "goal": 0, "ok": False, "reason": str(error)[:500]}}
    worst = max(outcome.recovery_seconds)
    left = len(outcome.left_running)
    return {
        name: {"value": wrong, "unit": "events", "goal": 0, "ok": wrong == 0, "kills": kills},
        f"kill_{area}.restarted_within": {
            "value": round(worst, 1),
            "unit": "s",
            "goal": 15,
            "ok": worst <= 15,
        },
        f"kill_{area}.left_running": {"value": left, "unit": "processes", "goal": 0, "ok": left == 0},
    }


def run_accounts(rounds: int, seed: int) -> dict[str, Result]:
    """The account side, each process killed `rounds` times while orders go on.

    First those behind the topics, where nothing at all may be missing; then the producer, where only what
    Alpaca tells once, and to listeners only, may be, and must be named.
    """
    behind = tuple(name for name in account_scenario.VICTIMS if name != "accounts")
    return _accounts("kill_account_side", behind * rounds, seed, whole=True) | _accounts(
        "kill_accounts", ("accounts",) * rounds, seed, whole=False
    )


def _accounts(name: str, victims: tuple[str, ...], seed: int, *, whole: bool) -> dict[str, Result]:
    first = f"{name}.differences"
    try:
        with tempfile.TemporaryDirectory(prefix="tidewire-chaos-") as folder:
            outcome = account_scenario.kill_in_turn(Path(folder), victims, seed, tell=print)
    except Exception as error:
        return {first: {"value": None, "unit": "events", "goal": 0, "ok": False, "reason": str(error)[:500]}}
    wrong, left, unheard = (len(x) for x in (outcome.differences, outcome.left_running, outcome.unheard))
    worst = max(outcome.recovery_seconds)
    named: Result = {"value": unheard, "unit": "passing order events", "ok": not (whole and unheard)}
    return {
        first: {
            "value": wrong,
            "unit": "differences",
            "goal": 0,
            "ok": wrong == 0,
            "seen": outcome.numbers(),
        },
        f"{name}.unheard_and_named": named | ({"goal": 0} if whole else {}),
        f"{name}.restarted_within": {"value": worst, "unit": "s", "goal": 15, "ok": worst <= 15},
        f"{name}.left_running": {"value": left, "unit": "processes", "goal": 0, "ok": left == 0},
    }


def main() -> int:
    """Run the areas until the time is used up; areas not reached are results that say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--area", default="all", help=", ".join((*AREAS, "all")))
    parser.add_argument("--seed", type=int, default=20131007)
    arguments = parser.parse_args()
    chosen = AREAS if arguments.area in ("", "all") else (arguments.area,)
    if unknown := set(chosen) - set(AREAS):
        parser.error(f"no such area: {', '.join(unknown)}; choose from {', '.join((*AREAS, 'all'))}")
    kills = 20 if os.environ.get("CHAOS") == "full" else 4
    results: dict[str, Result] = {}
    began = time.monotonic()
    for number, area in enumerate(chosen):
        what = "faults" if area in ("feeds", "processing", "orders") else f"{kills} x kill -9"
        print(f"== {area}: {what}, seed {arguments.seed + number}", flush=True)
        if time.monotonic() - began > BUDGET_SECONDS and os.environ.get("CHAOS") != "full":
            results[f"kill_{area}"] = {
                "value": None,
                "unit": "events",
                "goal": 0,
                "ok": False,
                "reason": "no time",
            }
            continue
        results |= run_area(area, kills, arguments.seed + number, BUDGET_SECONDS - (time.monotonic() - began))
        if area == "sink":  # and alone, under load, its PostgreSQL shut down as well
            full = os.environ.get("CHAOS") == "full"
            results |= sink_scenario.run(arguments.seed + number, full, partial(print, flush=True))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(results, indent=2) + "\n")
    for name, result in results.items():
        print(f"{'ok  ' if result['ok'] else 'FAIL'} {name}: {result['value']} {result['unit']}")
    return 0 if all(result["ok"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
