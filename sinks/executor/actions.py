"""The machine's actions, carried out at the broker of one account; what came of each is an event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sinks.executor.broker_types import (
    Broker,
    BrokerError,
    BrokerOrder,
    Limited,
    NewOrder,
    Refused,
    Stopped,
    Unknown,
)
from sinks.executor.failpoints import Failpoint
from sinks.executor.intents import Intent
from sinks.executor.last_look import LastLook, StalledError
from sinks.executor.look import Looker
from sinks.executor.moves import (
    Action,
    Blind,
    Clear,
    Denied,
    Doubtful,
    Event,
    LookUp,
    Missing,
    Overdue,
    Post,
    Resumed,
    Rules,
    Shown,
    State,
    Survey,
    Surveyed,
    Unsent,
    Withdraw,
    as_of,
)
from sinks.executor.refusals import verdict
from tidewire import log
from tidewire.clock import NS_PER_SECOND, Clock
from tidewire.metrics import EXECUTOR_ALERTS, EXECUTOR_POSTS
from tidewire.risk_limits import RiskLimits

FIRST_POLL = 0.1
LONGEST_POLL = 15.0
"""Seconds between looks at an exit's order that works; other orders are looked at four times less often."""
RETRY = 0.25
LONGEST_RETRY = 5.0
LAST_LOOK = 2.0
"""Seconds that the look at the broker has which says what an intent leaves that has become too old."""

_log = log.get("executor")

Sleep = Callable[[float], Awaitable[None]]


class _TooOldError(Exception):
    """The last look at the clock before the POST."""


class Actions:
    """`sleep` takes seconds; `now` is the wall clock, ns."""

    def __init__(
        self,
        broker: Broker,
        looker: Looker,
        rules: Rules,
        limits: RiskLimits,
        now: Clock,
        failpoint: Failpoint,
        last_look: LastLook,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._broker, self._looker, self._rules, self._limits = broker, looker, rules, limits
        self._now, self._failpoint, self._sleep = now, failpoint, sleep
        self._last_look = last_look
        self._news: dict[str, asyncio.Event] = {}

    async def act(self, intent: Intent, state: State, action: Action) -> Event:
        """Do it; every way in which the broker can answer is an event."""
        intent = as_of(intent, state)
        match action:
            case Survey(pause):
                await self._sleep(pause / 1e9)
                return await self._survey(intent, state)
            case Clear(order_ids, pause):
                await self._sleep(pause / 1e9)
                return await self._clear(intent, state, order_ids)
            case Post():
                return await self._post(intent, action)
            case Withdraw(order_id):
                return await self._withdraw(order_id)
            case LookUp(client_order_id, pause):
                await self._sleep(pause / 1e9)
                return await self._look_up(intent, client_order_id)
            case _:
                raise AssertionError(f"{action} is waited for elsewhere")

    def nudge(self, order_id: str) -> None:
        """There is news of an order: whoever watches it looks at once."""
        if (news := self._news.get(order_id)) is not None:
            news.set()

    async def watch(self, intent: Intent, state: State, order_id: str) -> Event:
        """Poll an order until it is over, replaced, or unlike what is known, or has not filled in its time.
        Never gives up: only the broker says that an order is over."""
        news = self._news.setdefault(order_id, asyncio.Event())
        limited = intent.exit and state.order is not None and state.order.type == "limit"
        patience = int(self._limits.limit_order_seconds * NS_PER_SECOND)
        due = self._now() + patience if limited else None
        wait, longest, lost = FIRST_POLL, LONGEST_POLL * (1 if intent.exit else 4), False
        try:
            while True:
                left = None if due is None else (due - self._now()) / NS_PER_SECOND
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), min(wait, left) if left and left > 0 else wait)
                news.clear()
                wait = min(wait * 2, longest)
                try:
                    order = await self._broker.order(order_id, exit=intent.exit)
                except BrokerError as error:
                    await self._sleep(_wait_for(error, RETRY, self._now()))
                    continue
                if order is None:
                    if not lost:
                        _log.error("the broker no longer knows an order that it took", order=order_id)
                        EXECUTOR_ALERTS.labels("lost").inc()
                    lost = True
                elif order.terminal or order.filled_quantity > state.filled:
                    return Shown(order, self._now())
                elif due is not None and self._now() >= due:
                    return Overdue(self._now())
        finally:
            del self._news[order_id]

    async def _survey(self, intent: Intent, state: State) -> Event:
        pause = RETRY
        due = None if state.phase == "settling" else intent.oldest(self._rules.max_age_ns)
        while True:
            left = None if due is None else max((due - self._now()) / NS_PER_SECOND, LAST_LOOK)
            try:
                # What is too old by then does not wait for a turn at the limit, which others need; but where
                # there is one, the last look tells what is left of the position.
                async with asyncio.timeout(left):
                    return Surveyed(await self._looker.look(intent, state, self._rules))
            except TimeoutError:
                return Blind("no answer before it was too old", self._now())
            except BrokerError as error:
                if due is not None and self._now() > due:
                    return Blind(str(error), self._now())
                await self._sleep(_wait_for(error, pause, self._now()))
                pause = min(pause * 2, LONGEST_RETRY)

    async def _clear(self, intent: Intent, state: State, order_ids: tuple[str, ...]) -> Event:
        for order_id in order_ids:
            with suppress(BrokerError):  # what it came to, the next look shows
                await self._broker.cancel(order_id, exit=True)
        return await self._survey(intent, state)

    async def _withdraw(self, order_id: str) -> Event:
        pause = RETRY
        with suppress(BrokerError):  # asked again when it works on for as long once more
            await self._broker.cancel(order_id, exit=True)
        while True:
            try:
                order = await self._broker.order(order_id, exit=True)
            except BrokerError as error:
                await self._sleep(_wait_for(error, pause, self._now()))
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                return Resumed(self._now()) if order is None else Shown(order, self._now())

    async def _look_up(self, intent: Intent, client_order_id: str) -> Event:
        pause = RETRY
        while True:
            asked = self._now()  # an order that comes while the answer is on its way is not in it
            try:
                order = await self._broker.by_client_order_id(client_order_id, exit=intent.exit)
            except BrokerError as error:
                await self._sleep(_wait_for(error, pause, self._now()))
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                return Missing(asked) if order is None else Shown(order, self._now())

    async def _post(self, intent: Intent, post: Post) -> Event:
        if self._limits.dry_run:
            return Unsent(f"would {_words(post.order)}", self._now(), "dry_run")
        self._failpoint("post.before")
        event, outcome = await self._sent(intent, post)
        self._failpoint("post.after")
        EXECUTOR_POSTS.labels(outcome).inc()
        return event

    async def _submit(self, intent: Intent, post: Post) -> BrokerOrder:
        most = self._rules.max_age_ns
        left = max((intent.oldest(most) - self._now()) / NS_PER_SECOND, 0) + 0.001
        try:
            async with asyncio.timeout(left) as turn:
                with self._last_look.posting(post.since) as look:

                    async def last_check() -> None:
                        turn.reschedule(None)  # it has come: from now on nothing is broken off
                        await look()
                        if (old := intent.too_old(self._now(), most)) is not None:
                            raise _TooOldError(old)

                    return await self._broker.submit(post.order, exit=intent.exit, last_check=last_check)
        except TimeoutError:
            raise _TooOldError("its turn at the broker's limit did not come before it was too old") from None

    async def _sent(self, intent: Intent, post: Post) -> tuple[Event, str]:
        try:
            shown = await self._submit(intent, post)
        except Refused as refused:
            meaning = verdict(refused)
            if meaning.alert:
                _log.error("an order was refused", why=meaning.name, reason=str(refused))
                EXECUTOR_ALERTS.labels("refusal").inc()
            return Denied(refused.message, self._now(), meaning), "refused"
        except Unknown as unknown:
            if not unknown.sent:
                await self._sleep(RETRY)
                return Unsent(unknown.reason, self._now()), "unsent"
            return Doubtful(unknown.reason, self._now()), "unknown"
        except Limited as limited:
            await self._sleep(_wait_for(limited, RETRY, self._now()))
            return Unsent("too many requests", self._now()), "limited"
        except Stopped as stopped:
            if stopped.unread:  # not off, but not on either: asked again until the intent is too old
                _log.warning("the kill switch cannot be read: no order for now", reason=stopped.reason)
                await self._sleep(RETRY)
                return Unsent(stopped.reason, self._now()), "unread"
            return Unsent(f"kill_switch: {stopped.reason}", self._now(), "refused"), "stopped"
        except StalledError:
            return Unsent("this process stood still", self._now()), "stalled"
        except _TooOldError as old:
            return Unsent(str(old), self._now(), "stale"), "stale"
        return Shown(shown, self._now()), "accepted"


def _wait_for(error: BrokerError, pause: float, now: int) -> float:
    return max(pause, (error.until_ns - now) / 1e9) if isinstance(error, Limited) else pause


def _words(order: NewOrder) -> str:
    amount = f"{order.quantity:f}" if order.quantity is not None else f"{order.notional:f} USD of"
    limit = "" if order.limit_price is None else f" at {order.limit_price:f}"
    return f"{order.side} {amount} {order.symbol}: {order.type}{limit}, {order.time_in_force}"
