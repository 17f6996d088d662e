"""News -> sentiment -> watchlist scores: analyzers named in the settings, and the decayed score of a symbol.

An analyzer is any callable that the settings name as `module:function` (TIDEWIRE_SENTIMENT)::

    def analyze(article: Article) -> Score | Mapping[str, Score]: ...

One Score stands for every symbol of the article; a mapping gives each symbol its own and may leave symbols
out. It may be `async def`; then it runs in an event loop of that call alone. It is called in threads, several
at once, and has TIDEWIRE_SENTIMENT_SECONDS for an article. If it raises, takes longer or answers nonsense,
the article is dead-lettered for this analyzer only; see `calls.py` for what happens when it hangs.
"""
