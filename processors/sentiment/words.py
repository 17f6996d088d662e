"""The words of the lexicon analyzer: our own list, of what headlines about markets and companies say.

Verbs and nouns stand in their base form; `forms` makes the others. Strengths are 1 (says a little) to 3.
"""

from __future__ import annotations

from collections.abc import Iterator

_UP_VERBS = {
    3: ("outperform outshine rally rocket skyrocket soar surge zoom"),
    2: (
        "accelerate advance bounce climb double gain jump leap rebound recover regain spurt swell triple "
        "vault"
    ),
    1: ("edge expand grow inch increase rise up uptick"),
}
_DOWN_VERBS = {
    3: ("collapse crash crumble nosedive plummet plunge slump tank tumble underperform"),
    2: ("decline dive drag drop fade lose retreat sag shed sink skid slide slip tank tumble wilt"),
    1: ("contract narrow cool decrease dip down ease fall lower shrink slacken slow soften weaken"),
}
_GOOD = {
    3: ("blockbuster bonanza breakthrough bullish outperform triumph upgrade windfall"),
    2: (
        "accumulate approval approve attractive beat boost breakout bull buoy buoyant cheer exceed "
        "impressive multibagger optimism optimistic outpace overweight profitable revival revive robust "
        "stellar strength strong success successful surpass tailwind turnaround undervalue upbeat upside "
        "uptrend win"
    ),
    1: (
        "attract award bag benefit best better buy buyback comfortable conducive confidence confident "
        "constructive favorable favorite favourable favourite generous good great green growth healthy help "
        "higher hope hot improve improvement lift lure opportunity oversubscribe pep pick positive "
        "potential prefer promise promising reap record relief rerate resilient resolve reward rich shine "
        "smart solid stable subscribe superb undervalue uptick upward winner"
    ),
}
_BAD = {
    3: (
        "bankrupt bankruptcy bearish bloodbath carnage catastrophe crisis default downgrade fraud "
        "insolvency insolvent meltdown recession rout scam scandal underperform wipeout"
    ),
    2: (
        "ban bear bleed breach crackdown cut delist dent deteriorate disappoint disappointment dismal "
        "distress downside downtrend downturn drag dump fear fine gloom gloomy glum hack halt headwind hurt "
        "investigate investigation jitter jittery lawsuit layoff loss lukewarm mar miss overhang overvalue "
        "panic penalty pessimism pessimistic plunge probe raid recall rout sell-off selloff shortfall "
        "shutdown slash spiral struggle stumble subdue sue suffer suspend trouble turmoil underweight "
        "violate violation warn warning weak weakness woe worrie worry"
    ),
    1: (
        "allegation allege avoid away bad bleak bubble cancel caution cautious challenge choppy concern "
        "corrective curb deficit delay difficult dilute dilution dispute disrupt disruption dull erode "
        "expensive fail failure glut hamper lackluster lacklustre lag low lower muted negative poor "
        "pressure problem rattle red reject resign resistance risk risky sell shadow slap slowdown sluggish "
        "spook squeeze stress strike tariff tension tepid threat threaten tighten uncertain uncertainty "
        "underwhelm unlikely volatile volatility war worse worst"
    ),
}


def forms(words: str) -> Iterator[str]:
    """The words and what English makes of them; forms that do not exist do no harm."""
    for word in words.split():
        yield word
        yield word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")
        if word.endswith("e"):
            yield from (word + "d", word[:-1] + "ing", word + "r")
        elif word.endswith("y"):
            yield from (word[:-1] + "ies", word[:-1] + "ied", word + "ing")
        else:
            yield from (word + "ed", word + "ing", word + word[-1] + "ed", word + word[-1] + "ing")


_IRREGULAR = {
    "rise": "rose risen",
    "grow": "grew grown",
    "fall": "fell fallen",
    "sink": "sank sunk",
    "slide": "slid",
    "lose": "lost",
    "shrink": "shrank shrunk",
    "win": "won",
    "buy": "bought",
    "sell": "sold",
    "bleed": "bled",
    "leap": "leapt",
    "beat": "beaten",
}


def _with_forms(*levels: dict[int, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for level in levels:
        for strength in sorted(level):
            for word in level[strength].split():
                for form in (*forms(word), *_IRREGULAR.get(word, "").split()):
                    found[form] = float(strength)
    return found


def _set(words: str, inflected: bool = True) -> frozenset[str]:
    return frozenset(forms(words)) if inflected else frozenset(words.split())


UP = _with_forms(_UP_VERBS)
"""Movements up, with their strength."""
DOWN = _with_forms(_DOWN_VERBS)
"""Movements down."""
GOOD = _with_forms(_GOOD)
"""Good whatever moves."""
BAD = _with_forms(_BAD)
"""Bad whatever moves."""

BURDENS = _set(
    "loss debt cost expense unemployment inflation deficit npa npas default provision layoff claim jobless "
    "delinquency liability slippage vacancy tax yield crude risk pressure concern worry fear rate"
)
"""What is good when it falls and bad when it rises."""

NEGATIONS = _set(
    "not no never without hardly neither nor cannot can't won't don't doesn't didn't isn't aren't wasn't "
    "weren't wouldn't couldn't shouldn't hasn't haven't denies deny denied lack lacks lacking unlikely",
    inflected=False,
)
"""Words that turn around what follows."""
INTENSIFIERS = _set(
    "sharply strongly heavily significantly massively steeply very hugely dramatically steep sharp huge "
    "massive big biggest deeply further most much highest strongest worst-ever record",
    inflected=False,
)
"""Words that make what stands beside them stronger."""
DAMPENERS = _set(
    "slightly marginally modestly somewhat mildly marginal slight modest partly may might could",
    inflected=False,
)
"""Words that make it weaker."""

MEASURES = _set("estimate expectation forecast view consensus street target guidance prediction")
"""What results are compared with."""
ABOVE = _set("beat top exceed surpass outpace above better-than trounce smash crush")
"""How results are better than a measure."""
BELOW = _set("miss below lag trail under undershoot worse-than short")
"""How they are worse."""

PHRASES: dict[str, float] = {
    "up to": 0,
    "stay away": -3,
    "keep away": -3,
    "hit by": -2,
    "hits record": 2,
    "hit record": 2,
    "hits high": 2,
    "day's high": 1,
    "day's low": -1,
    "swings to profit": 3,
    "turns profitable": 3,
    "swings to loss": -3,
    "raises dividend": 2,
    "cuts dividend": -2,
    "suspends dividend": -3,
    "settle up": 1,
    "settle down": -1,
    "game changer": 2,
    "record high": 2,
    "all-time high": 2,
    "lifetime high": 2,
    "52-week high": 2,
    "52-week low": -2,
    "week high": 1,
    "week low": -1,
    "year high": 1,
    "year low": -1,
    "month high": 1,
    "month low": -1,
    "all-time low": -2,
    "record low": -2,
    "in the red": -2,
    "in the green": 2,
    "in red": -2,
    "in green": 2,
    "rate cut": 1,
    "rate hike": -1,
    "tax cut": 1,
    "price hike": 1,
    "cost cutting": 0,
    "profit warning": -3,
    "profit booking": -2,
    "profit taking": -2,
    "book profits": -1,
    "chapter 11": -3,
    "class action": -2,
    "going concern": -3,
    "short seller": -2,
    "short squeeze": 1,
    "stop loss": 0,
    "net loss": -2,
    "raises guidance": 3,
    "raises outlook": 3,
    "raises forecast": 3,
    "lifts guidance": 3,
    "boosts guidance": 3,
    "boosts outlook": 3,
    "cuts guidance": -3,
    "cuts outlook": -3,
    "cuts forecast": -3,
    "lowers guidance": -3,
    "lowers outlook": -3,
    "lowers forecast": -3,
    "withdraws guidance": -3,
    "fall short": -2,
    "falls short": -2,
    "fell short": -2,
    "to the upside": 1,
    "to the downside": -1,
    "buy rating": 2,
    "sell rating": -2,
    "strong buy": 3,
    "strong sell": -3,
    "price target raised": 2,
    "price target cut": -2,
    "target price raised": 2,
    "raises price target": 2,
    "cuts price target": -2,
    "lowers price target": -2,
    "steps down": -1,
    "data breach": -2,
    "bad loans": -1,
    "bad debt": -1,
    "trade war": -2,
    "sell off": -2,
    "bottom line": 0,
    "top line": 0,
    "top gainers": 1,
    "top losers": -1,
    "top picks": 1,
    "stock pick": 1,
    "well placed": 2,
    "under pressure": -2,
    "out of the woods": 1,
    "risk free": 0,
    "high risk": -1,
    "highly leveraged": -1,
    "share buyback": 2,
    "stock split": 1,
    "wins approval": 3,
    "fda approval": 3,
    "complete response letter": -3,
    "clinical hold": -3,
    "meets primary endpoint": 3,
    "fails to meet": -3,
}
"""Word for word, and stronger than the words in them; 0: means nothing, whatever its words say."""
