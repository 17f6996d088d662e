"""Tickers that a text names, by two rules and no guessing. Pure.

1. A cashtag: `$AAPL`, `$BRK.B`. One to five capital letters, perhaps a class; not `$5`, not `US$`.
2. In parentheses, behind the name of a US exchange: `(NASDAQ: AAPL)`, `(NYSE: BRK.B, NYSE American: UEC)`.

A capital word alone is no ticker: IT, ALL and ON are companies, and words.
"""

from __future__ import annotations

import re

MOST = 50
_TICKER = r"[A-Z]{1,5}(?:\.[A-Z]{1,2})?"
_CASHTAG = re.compile(rf"(?<![\w$])\$({_TICKER})(?![\w$])")
_GROUP = re.compile(r"\(([^()]{3,300})\)")
_EXCHANGE = r"NASDAQ(?:GS|GM|CM)?|NYSE(?:\s?(?:American|Arca|MKT))?|AMEX|CBOE|BATS|OTC(?:QB|QX|\s?Pink|MKTS)?"
_LISTED = re.compile(rf"\b(?:{_EXCHANGE})\s*:\s*({_TICKER}(?:\s*[,/]\s*{_TICKER})*)(?![\w:.])", re.IGNORECASE)
_ONE = re.compile(rf"(?<!\w){_TICKER}(?!\w)")


def tickers(text: str) -> list[str]:
    """The tickers of a text in the order of their first appearance, each once, at most `MOST`."""
    found = [(match.start(), match.group(1)) for match in _CASHTAG.finditer(text)]
    for group in _GROUP.finditer(text):
        for listed in _LISTED.finditer(group.group(1)):
            # IGNORECASE is for the exchange; a ticker has capitals only.
            start = group.start(1) + listed.start(1)
            found += [(start + one.start(), one.group()) for one in _ONE.finditer(listed.group(1))]
    return list(dict.fromkeys(ticker for _, ticker in sorted(found)))[:MOST]
