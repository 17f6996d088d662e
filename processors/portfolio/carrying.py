"""Costs that move from one symbol to another: changes of name, mergers for shares, units that split. Pure.

What leaves one symbol and what comes into others belong together by their group. The cost that left is shared
among those that came by what Alpaca says that they are worth; alone it goes over whole.
"""

from __future__ import annotations

from decimal import Decimal

from processors.portfolio.account import Account
from processors.portfolio.actions import Action
from processors.portfolio.exact import ZERO, quotient
from processors.portfolio.holding import Holding


def settle(account: Account, held: Holding) -> list[Holding]:
    """Bring the cost that has left holdings to those that it went to, after one has changed; returns those
    that changed by it.
    """
    changed: dict[str, Holding] = {}
    waiting = [held, *_sources(account, held)]
    seen = {one.symbol for one in waiting}
    while waiting:
        source = waiting.pop()
        for group, cost in source.story.moved.items():
            for target, share in _shares(account, source, group, cost):
                if target.story.carried.get(group) == share:
                    continue
                target.story.carried[group] = share
                target.recompute()
                changed[target.symbol] = target
                if target.symbol not in seen:  # what it has passed on in its turn has another cost now
                    seen.add(target.symbol)
                    waiting.append(target)
    return list(changed.values())


def _sources(account: Account, held: Holding) -> list[Holding]:
    """The holdings from which something that came into this one may have come."""
    groups = {a.group for a in held.actions.values() if a.kind == "transfer" and a.group}
    if not groups:
        return []
    return [one for one in account.holdings.values() if one is not held and groups & one.story.moved.keys()]


def _shares(account: Account, source: Holding, group: str, cost: Decimal) -> list[tuple[Holding, Decimal]]:
    legs = [
        (held, leg)
        for held in account.holdings.values()
        if held is not source
        for leg in held.actions.values()
        if leg.kind == "transfer" and leg.group == group and leg.quantity
    ]
    whole = sum((_worth(leg) for _, leg in legs), ZERO)
    if not legs:
        return []
    shares = [quotient(cost * _worth(leg), whole) if whole else ZERO for _, leg in legs]
    shares[0] += cost - sum(shares, ZERO)
    return [(held, share) for (held, _), share in zip(legs, shares, strict=True)]


def _worth(leg: Action) -> Decimal:
    return abs(leg.quantity) * leg.price
