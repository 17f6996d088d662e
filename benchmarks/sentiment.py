"""`python -m benchmarks.sentiment PATH`: the lexicon analyzer against headlines that people have labelled.

PATH is a CSV file with columns `headline` and `label` (positive, neutral, negative; other labels are left out
and counted). The headlines are split in two halves by a hash of their text: the lexicon was tuned on the one,
and the figures are those of the other, unless `--half tuned` asks for the first.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from xxhash import xxh3_64_intdigest

from processors.sentiment.article import Article, plain_text
from processors.sentiment.lexicon import analyze

LABELS = ("positive", "neutral", "negative")
THRESHOLD = 0.15
"""A score nearer to 0 counts as neutral."""

Labelled = tuple[str, str]
Judge = Callable[[str], str]


def read(path: Path) -> tuple[list[Labelled], int]:
    """Headlines with one of the three labels, and how many had another."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["headline"], row["label"]) for row in csv.DictReader(file)]
    wanted = [row for row in rows if row[1] in LABELS]
    return wanted, len(rows) - len(wanted)


def tuned(headline: str) -> bool:
    """Whether a headline belongs to the half that the lexicon was tuned on."""
    return xxh3_64_intdigest(headline.encode()) % 2 == 0


def lexicon(headline: str) -> str:
    """The analyzer's label of a headline without summary and content."""
    score = analyze(Article("", "", plain_text(headline), "", "", ("X",), 0)).score
    return "neutral" if abs(score) < THRESHOLD else "positive" if score > 0 else "negative"


def one_line(headline: str) -> str:
    """The baseline: a dozen words, counted."""
    found = headline.lower().split()
    up = sum(
        found.count(word) for word in ("up", "gains", "rises", "surges", "jumps", "rally", "high", "profit")
    )
    down = sum(
        found.count(word) for word in ("down", "falls", "slips", "drops", "plunges", "loss", "low", "cut")
    )
    return "neutral" if up == down else "positive" if up > down else "negative"


def figures(rows: Sequence[Labelled], judge: Judge) -> tuple[float, float, dict[str, float]]:
    """Accuracy, macro-F1 and F1 of each label."""
    pairs = Counter((label, judge(headline)) for headline, label in rows)
    right = sum(count for (label, said), count in pairs.items() if label == said)
    scores = {}
    for label in LABELS:
        hits = pairs[label, label]
        total = sum(c for (a, _), c in pairs.items() if a == label) + sum(
            c for (_, b), c in pairs.items() if b == label
        )
        scores[label] = 2 * hits / total if total else 0.0
    return right / len(rows), sum(scores.values()) / len(LABELS), scores


def main(arguments: list[str] | None = None) -> int:
    """The command; prints one line a judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sentiment", description=__doc__)
    parser.add_argument("path", type=Path, help="CSV file of headlines with human labels")
    parser.add_argument("--half", choices=("held-out", "tuned"), default="held-out")
    options = parser.parse_args(arguments)
    rows, others = read(options.path)
    rows = [row for row in rows if tuned(row[0]) == (options.half == "tuned")]
    if not rows:
        parser.error(f"no labelled headlines in {options.path}")
    counts = Counter(label for _, label in rows)
    majority = max(LABELS, key=lambda label: counts[label])
    print(
        f"{len(rows):,} headlines ({options.half} half): {dict(counts)}; {others:,} of both halves left out"
    )
    print(f"{'judge':<20}{'accuracy':>10}{'macro-F1':>10}" + "".join(f"{label:>10}" for label in LABELS))
    judges: dict[str, Judge] = {
        f"always {majority}": lambda _: majority, "one line": one_line, "lexicon": lexicon,
    }  # fmt: skip
    for name, judge in judges.items():
        started = time.perf_counter()
        accuracy, macro, each = figures(rows, judge)
        spent = (time.perf_counter() - started) / len(rows) * 1e6
        shown = "".join(f"{each[label]:>10.3f}" for label in LABELS)
        print(f"{name:<20}{accuracy:>10.3f}{macro:>10.3f}{shown}   {spent:.0f} us a headline")
    return 0


if __name__ == "__main__":
    sys.exit(main())
