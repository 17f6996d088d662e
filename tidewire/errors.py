"""Every error that tidewire raises on purpose.

::

    TidewireError                 has an exit code and reads as one message; never shown with a traceback
    ├── ConfigError               a wrong or missing setting; all mistakes of a start at once        (exit 2)
    ├── StackError                a local server could not be started, found or stopped              (exit 3)
    ├── UnreachableError          a named server (Kafka, PostgreSQL, Alpaca) does not answer         (exit 4)
    ├── RefusedError              Alpaca refused us for good: 402, 409, 410, 411                     (exit 5)
    ├── SchemaError               a topic, schema or id that does not match the catalogue            (exit 6)
    ├── IncompleteError           a completeness report that is not complete                         (exit 1)
    └── PoisonLimitError          more dead letters than a broken record explains: stop and look     (exit 7)

    RecordError                   one record cannot be handled: goes to a dead letter, never to the user
"""

from __future__ import annotations


class TidewireError(Exception):
    """An error that the user can act on. `str(error)` says what was wrong, where, and what to do."""

    exit_code = 1


class ConfigError(TidewireError):
    """One or more settings are wrong. The message lists every one of them."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"  - {p}" for p in problems) if len(problems) > 1 else problems[0])


class StackError(TidewireError):
    """A server of the local stack cannot be started, found or stopped."""

    exit_code = 3


class UnreachableError(TidewireError):
    """A server that the settings name does not answer."""

    exit_code = 4


class RefusedError(TidewireError):
    """Alpaca refused the connection for good; trying again cannot help."""

    exit_code = 5


class SchemaError(TidewireError):
    """A topic, a schema or a schema id does not match the catalogue."""

    exit_code = 6


class IncompleteError(TidewireError):
    """Something that was sent did not arrive everywhere."""

    exit_code = 1


class PoisonLimitError(TidewireError):
    """So many records of one batch were refused that the program, not the data, must be wrong."""

    exit_code = 7


class RecordError(Exception):
    """One record cannot be decoded or applied; `reason` goes into its dead letter."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
