"""Calls of one analyzer: in threads, with a time limit, and never more threads than a few.

Python cannot end a thread, so a call that outlasts its time keeps its thread until it returns by itself.
While some threads are left the analyzer is asked as before. Once all of them hang, each further article is
given up at once, with that reason, instead of waiting for nothing; the first call that returns after all
opens the analyzer again. Threads are daemons: a hung one does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable
from dataclasses import dataclass

from processors.sentiment.answers import AnswerError, checked
from processors.sentiment.article import Article, Score
from processors.sentiment.hooks import Analyzer
from tidewire import log

THREADS = 4
"""Calls of one analyzer at once, those that hang included."""

_log = log.get(__name__)


class AnalyzerError(Exception):
    """An analyzer failed on one article; the message goes into its dead letter."""


@dataclass(slots=True, eq=False)
class _Call:
    """`overdue`: nobody waits for it any more."""

    done: asyncio.Future[tuple[object, BaseException | None]]
    overdue: bool = False


class Calls:
    """One analyzer, asked from one event loop. `seconds` is what it has for an article."""

    def __init__(self, analyzer: Analyzer, seconds: float, threads: int = THREADS) -> None:
        self.name = analyzer.name
        self._function, self._seconds, self._threads = analyzer.function, seconds, threads
        self._running: set[_Call] = set()
        self._changed = asyncio.Event()

    @property
    def hanging(self) -> int:
        """Threads whose call has outlasted its time."""
        return sum(call.overdue for call in self._running)

    async def ask(self, article: Article) -> dict[str, Score]:
        """Its checked scores by symbol. Waits for a free thread; that is not counted as the analyzer's time.

        Raises:
            AnalyzerError: it raised, took too long or answered nonsense, or all its threads hang.
        """
        while len(self._running) >= self._threads:
            if self.hanging >= self._threads:
                raise AnalyzerError(f"not asked: all its {self._threads} threads hang in earlier articles")
            self._changed.clear()
            await self._changed.wait()
        answer, error = await self._outcome(self._start(article))
        if error is not None:
            raise AnalyzerError(f"it raised {_described(error)}")
        try:
            return checked(answer, article.symbols)
        except AnswerError as wrong:
            raise AnalyzerError(str(wrong)) from wrong

    async def _outcome(self, call: _Call) -> tuple[object, BaseException | None]:
        try:
            await asyncio.wait([call.done], timeout=self._seconds)
        finally:
            if not call.done.done():
                call.overdue = True
                self._changed.set()
        if call.overdue:
            if self.hanging == self._threads:
                _log.warning("all threads of an analyzer hang; it is not asked", analyzer=self.name)
            raise AnalyzerError(f"it took longer than {self._seconds:g} s")
        return call.done.result()

    def _start(self, article: Article) -> _Call:
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future())
        self._running.add(call)

        def work() -> None:
            outcome = self._call(article)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(self._ended, call, outcome)

        threading.Thread(target=work, name=f"sentiment {self.name}", daemon=True).start()
        return call

    def _call(self, article: Article) -> tuple[object, BaseException | None]:
        try:
            answer = self._function(article)
            if inspect.isawaitable(answer):
                answer = asyncio.run(_limited(answer, self._seconds))
            return answer, None
        except BaseException as error:  # SystemExit included: it is the analyzer's, not the processor's
            return None, error

    def _ended(self, call: _Call, outcome: tuple[object, BaseException | None]) -> None:
        if call.overdue and self.hanging == self._threads:
            _log.info("a hanging analyzer has returned; it is asked again", analyzer=self.name)
        self._running.discard(call)
        if not call.done.done():
            call.done.set_result(outcome)
        self._changed.set()


async def _limited(answer: Awaitable[object], seconds: float) -> object:
    """Cancelled when its time is over, so that it gives its thread back."""
    async with asyncio.timeout(seconds):
        return await answer


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:1000]
    except Exception:  # a stranger's exception: its text may raise, too
        return type(error).__name__
