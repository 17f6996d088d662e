"""The analyzers that the settings name: imported and looked at once, at the start."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processors.sentiment.article import Article
from tidewire.errors import ConfigError

Function = Callable[[Article], object]
"""What a hook names: sync or async, answers a Score or a mapping of symbols to Scores."""


@dataclass(frozen=True, slots=True)
class Analyzer:
    """One configured analyzer; `name` is its `module:function`."""

    name: str
    function: Function


def load(names: Sequence[str]) -> tuple[Analyzer, ...]:
    """The analyzers by these names, in their order.

    Raises:
        ConfigError: one message with every analyzer that cannot be used, and why.
    """
    analyzers, problems = [], []
    for name in names:
        try:
            analyzers.append(Analyzer(name, _function(name)))
        except _Unusable as error:
            problems.append(f"TIDEWIRE_SENTIMENT: {name}: {error}")
    if problems:
        raise ConfigError(problems)
    return tuple(analyzers)


class _Unusable(Exception):
    pass


def _function(name: str) -> Function:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise _Unusable(
                f"there is no module {error.name}. It must be installed or on PYTHONPATH"
            ) from error
        raise _Unusable(f"{module_name} needs the module {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # the module's own code ran: anything may come out of it
        raise _Unusable(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, attribute, None)
    if function is None:
        raise _Unusable(f"{module_name} has no {attribute}")
    if not callable(function):
        raise _Unusable(f"{attribute} is not callable, it is {_kind(function)}")
    if inspect.isclass(function):
        raise _Unusable(f"{attribute} is a class; name a function, or an instance that can be called")
    _check_signature(attribute, function)
    return function  # type: ignore[no-any-return]


def _check_signature(attribute: str, function: Function) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C: the first call will tell
    try:
        signature.bind(object())
    except TypeError as error:
        raise _Unusable(f"{attribute}{signature} cannot be called with one article: {error}") from error
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _Unusable(f"{attribute} is a generator; it must return its answer")


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
