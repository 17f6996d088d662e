"""Analyzers from the settings: if these fail, a stranger's code can stop the processor or poison the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from processors.sentiment import hooks
from processors.sentiment.answers import LONGEST_DETAIL, AnswerError, checked
from processors.sentiment.article import Article, Score
from processors.sentiment.calls import AnalyzerError, Calls
from processors.sentiment.hooks import Analyzer
from tidewire.errors import ConfigError

ARTICLE = Article("1", "benzinga", "Apple beats estimates", "", "", ("AAPL", "MSFT"), 5)
GOOD = Score(0.5, 0.9, {"why": "beats"})
PLUGIN = """
number = 5
def two(a, b): ...
def good(article): ...
class Model:
    def __call__(self, article): ...
def generator(article):
    yield 1
model = Model()
"""


def calls(function: Callable[[Article], object], seconds: float = 5, threads: int = 2) -> Calls:
    return Calls(Analyzer("a:b", function), seconds, threads)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_under_test.py").write_text(PLUGIN)
    (tmp_path / "plugin_broken.py").write_text("raise RuntimeError('no model file')\n")
    (tmp_path / "plugin_exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "plugin_needs.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("plugin")
def test_every_wrong_hook_is_named_in_one_message() -> None:
    """A typing mistake is told at the start, not by the first article."""
    p = "plugin_under_test:"
    names = ["missing_module:f", "plugin_needs:f", "plugin_broken:f", "plugin_exits:f", p + "absent"]
    names += [p + "number", p + "two", p + "Model", p + "generator"]
    with pytest.raises(ConfigError) as caught:
        hooks.load([p + "good", *names])
    expected = [
        "there is no module missing_module",
        "needs the module surely_not_installed",
        "RuntimeError: no model file",
        "SystemExit",
        "has no absent",
        "not callable, it is an int",
        "cannot be called with one article",
        "is a class",
        "is a generator",
    ]
    assert len(caught.value.problems) == len(names)
    for name, problem, words in zip(names, caught.value.problems, expected, strict=True):
        assert problem.startswith(f"TIDEWIRE_SENTIMENT: {name}: ")
        assert words in problem


@pytest.mark.usefixtures("plugin")
def test_functions_and_callable_objects_are_analyzers() -> None:
    """The default is one; a loaded model with __call__ is another."""
    names = ("processors.sentiment.lexicon:analyze", "plugin_under_test:model")
    assert tuple(analyzer.name for analyzer in hooks.load(names)) == names


def test_one_score_is_for_all_symbols_and_a_mapping_for_those_that_it_names() -> None:
    """Symbols left out get no record; the others get theirs."""
    assert checked(GOOD, ("AAPL", "MSFT")) == {"AAPL": GOOD, "MSFT": GOOD}
    assert checked({"MSFT": Score(-1)}, ("AAPL", "MSFT")) == {"MSFT": Score(-1)}
    assert checked({}, ("AAPL",)) == {}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "answered None"),
        (0.5, "answered 0.5"),
        ({"AAPL": 0.5}, "of AAPL is 0.5, not a Score"),
        ({"TSLA": GOOD}, "'TSLA', which is no symbol"),
        (Score(float("nan")), "score nan is not between -1 and 1"),
        (Score(1.01), "score 1.01"),
        (Score(True), "not a number"),
        (Score("0.5"), "not a number"),  # type: ignore[arg-type]
        (Score(0, -0.1), "confidence -0.1 is not between 0 and 1"),
        (Score(0, 1, {"x": object()}), "cannot be written as JSON"),
        (Score(0, 1, ["x"]), "not a mapping"),  # type: ignore[arg-type]
        (Score(0, 1, {"x": "y" * LONGEST_DETAIL}), "are kept"),
    ],
)
def test_nonsense_is_refused_with_a_reason(answer: object, words: str) -> None:
    """A NaN in the score of a symbol would stay there for ever."""
    with pytest.raises(AnswerError, match=words):
        checked(answer, ("AAPL", "MSFT"))


async def test_sync_and_async_analyzers_answer_outside_of_the_event_loop() -> None:
    """A slow model must not hold up the features."""
    threads = []

    def sync(article: Article) -> Score:
        threads.append(threading.current_thread())
        return GOOD

    async def async_(article: Article) -> dict[str, Score]:
        await asyncio.sleep(0)
        return {"AAPL": GOOD}

    assert await calls(sync).ask(ARTICLE) == {"AAPL": GOOD, "MSFT": GOOD}
    assert await calls(async_).ask(ARTICLE) == {"AAPL": GOOD}
    assert threads[0] is not threading.main_thread()


async def test_what_an_analyzer_raises_is_a_reason() -> None:
    """SystemExit too: a stranger's sys.exit() must not end the processor."""

    def leave(_: Article) -> Score:
        raise SystemExit(3)

    def fail(_: Article) -> Score:
        raise ValueError("no such ticker")

    with pytest.raises(AnalyzerError, match="SystemExit"):
        await calls(leave).ask(ARTICLE)
    with pytest.raises(AnalyzerError, match="ValueError: no such ticker"):
        await calls(fail).ask(ARTICLE)


async def test_a_hanging_analyzer_keeps_its_threads_and_no_more() -> None:
    """With every article one more thread would hang, until the machine has none."""
    free, asked = threading.Event(), []

    def hang(article: Article) -> Score:
        asked.append(article)
        free.wait(20)
        return GOOD

    hanging = calls(hang, seconds=0.05, threads=2)
    outcomes = await asyncio.gather(*(hanging.ask(ARTICLE) for _ in range(10)), return_exceptions=True)
    reasons = [str(outcome) for outcome in outcomes]
    assert sum("took longer than 0.05 s" in reason for reason in reasons) == 2
    assert sum("all its 2 threads hang" in reason for reason in reasons) == 8
    assert (len(asked), hanging.hanging) == (2, 2)
    free.set()
    async with asyncio.timeout(10):
        while hanging.hanging:
            await asyncio.sleep(0.005)
    assert await hanging.ask(ARTICLE) == {"AAPL": GOOD, "MSFT": GOOD}


async def test_an_async_analyzer_that_hangs_is_cancelled_and_gives_its_thread_back() -> None:
    """A model server that does not answer costs its articles, not the analyzer."""

    async def hang(_: Article) -> Score:
        await asyncio.Event().wait()
        return GOOD

    hanging = calls(hang, seconds=0.05, threads=1)
    for _ in range(2):
        with pytest.raises(AnalyzerError, match=r"took longer|TimeoutError"):
            await hanging.ask(ARTICLE)
        async with asyncio.timeout(10):
            while hanging.hanging:
                await asyncio.sleep(0.005)


async def test_a_slow_analyzer_is_waited_for_by_more_articles_than_it_has_threads() -> None:
    """Waiting for a thread is not the analyzer's time: slow is not hung."""
    pause = threading.Event()

    def slow(_: Article) -> Score:
        pause.wait(0.1)
        return GOOD

    one = calls(slow, seconds=0.4, threads=1)
    answers = await asyncio.gather(*(one.ask(ARTICLE) for _ in range(8)))
    assert all(answer == {"AAPL": GOOD, "MSFT": GOOD} for answer in answers)
