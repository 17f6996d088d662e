"""The exit epochs of a position: which attempt to close it is due, and how soon. Pure.

An attempt ends with the executor's final result. Where it left nothing at the broker the exit is done, and
the fills that say so are on their way. In all other cases the next exit epoch begins: at once when something
was filled, else after a pause that doubles with each attempt in vain. The pause is event time and is counted
by whoever watches the prices; nothing here looks at a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from processors.placing.position import Position
from schemas.exit_rules import PERMANENT

LONGEST_PAUSE = 300
"""Seconds of event time."""

KEEP = 64
"""Epochs of a position whose attempts are remembered: a bust may bring a former one back."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """`epoch`: the exit epoch that is due. `vain`: attempts in a row that filled nothing. `result`: what the
    executor said of the former one. `done_ts`: when the result was received that left nothing (ns; None: none
    did). `down`: no further attempt can help until a rule is set anew. `dust`: what is left is less than the
    broker trades, so the exit is done until there is more.
    """

    epoch: int = 0
    vain: int = 0
    result: str | None = None
    done_ts: int | None = None
    down: bool = False
    dust: bool = False

    @property
    def pause_seconds(self) -> int:
        """How long to wait, in event time, after the former trigger: 0, then 1, 2, 4, ..."""
        return min(LONGEST_PAUSE, 1 << min(self.vain - 1, 16)) if self.vain else 0

    def ended(self, epoch: int, result: Mapping[str, Any]) -> Attempt:
        """After the final result of an exit epoch; itself when that one had ended before."""
        if epoch < self.epoch or (epoch == self.epoch and self.done_ts is not None):
            return self
        said = f"{result['outcome']}: {result['reason']}" if result["reason"] else str(result["outcome"])
        if nothing_to_do(result):
            return Attempt(epoch, 0, said, result["received_ts"], dust=bool(result["remaining"]))
        vain = 0 if result["filled_quantity"] else self.vain + 1
        return Attempt(epoch + 1, vain, said, None, result["reason"].startswith(PERMANENT))

    def moved(self, before: Position | None, now: Position) -> Attempt:
        """After a change of the position within its epoch.

        An exit that is done, and yet there is more to guard: somebody bought meanwhile, or the broker said
        after the result that it is still there. Should that have been a late word, the executor finds nothing
        to sell, and that is all.
        """
        if self.done_ts is None:
            return self
        grown = before is not None and before.epoch == now.epoch and abs(now.quantity) > abs(before.quantity)
        there = (
            not self.dust and now.broker is not None and now.broker[0] != 0 and now.broker[1] > self.done_ts
        )
        again = replace(self, epoch=self.epoch + 1, vain=0, done_ts=None, dust=False)
        return again if grown or there else self

    def wanted_again(self) -> Attempt:
        """After a rule of the position was set by somebody: whatever kept it down is to be tried again."""
        return replace(self, down=False, vain=0) if self.down else self


def nothing_to_do(result: Mapping[str, Any]) -> bool:
    """Whether a final result left nothing at the broker, or nothing but dust."""
    left = result["remaining"]
    return left is not None and (not left or result["outcome"] == "closed")


def to_row(attempts: Mapping[int, Attempt]) -> dict[str, Any]:
    """By position epoch, as JSON can hold it; only the newest ones."""
    kept = sorted(attempts)[-KEEP:]
    rows = {
        str(n): [a.epoch, a.vain, a.result, a.done_ts, a.down, a.dust] for n in kept for a in [attempts[n]]
    }
    return {"epochs": rows}


def from_row(row: Mapping[str, Any]) -> dict[int, Attempt]:
    """The attempts of `to_row`."""
    return {int(n): Attempt(*values) for n, values in row["epochs"].items()}
