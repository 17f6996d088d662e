"""The kill switch's file, TIDEWIRE_HOME/kill: it says for whom the switch is on; not there, it says off.

An empty file stops every account, so that `touch` will do; so does one that cannot be read or understood, and
a home that is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tidewire.errors import TidewireError

NAME = "kill"
ALL = "*"
"""Stands for every account, here and in PostgreSQL."""
_LARGEST = 1 << 20


def why_on(home: Path, account: str) -> str | None:
    """Why the file says that the switch is on for an account; None: it says off."""
    try:
        marks = _read(home)
    except _UnreadableError as error:
        return str(error)
    for name, which in ((ALL, "all accounts"), (account, "this account")):
        if name in marks:
            return f"on for {which} by the file {NAME}" + (f": {marks[name]}" if marks[name] else "")
    return None


def set_on(home: Path, account: str, reason: str) -> None:
    """Switch on for an account, or for ALL; on the disk when this returns.

    Raises:
        TidewireError: the file cannot be written.
    """
    try:
        marks = dict(_read(home))
    except _UnreadableError:
        marks = {ALL: "the file could not be read"}  # it stopped everybody, and goes on to
    marks[account] = reason
    _write(home, marks)


def set_off(home: Path, account: str) -> None:
    """Switch off for an account, or with ALL for everybody; on the disk when this returns.

    Raises:
        TidewireError: the file cannot be written; or it cannot be read, and should go on for others.
    """
    if account == ALL:
        _remove(home)
        return
    try:
        marks = dict(_read(home))
    except _UnreadableError as error:
        raise TidewireError(f"{error}: it stops every account; switch off for all of them") from None
    if marks.pop(account, None) is None:
        return
    if marks:
        _write(home, marks)
    else:
        _remove(home)


class _UnreadableError(Exception):
    """Nobody knows what the file says."""


def _read(home: Path) -> Mapping[str, str]:
    """Account or ALL to reason."""
    path = home / NAME
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST)
    except FileNotFoundError:
        if home.is_dir():
            return {}
        raise _UnreadableError(f"the folder of the file {NAME} is not there") from None
    except OSError as error:
        raise _UnreadableError(f"the file {NAME} cannot be read: {error.strerror}") from None
    if not raw.strip():
        return {ALL: ""}
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise _UnreadableError(f"the file {NAME} is not understood") from None
    marks = found.get("on") if isinstance(found, dict) else None
    texts = isinstance(marks, dict) and all(isinstance(reason, str) for reason in marks.values())
    if not isinstance(marks, dict) or not texts or not marks:
        raise _UnreadableError(f"the file {NAME} is not understood")
    return marks


def _write(home: Path, marks: Mapping[str, str]) -> None:
    path, draft = home / NAME, home / f".{NAME}.{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"on": dict(marks)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(home)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise TidewireError(f"cannot write {path}: {error.strerror}") from None


def _remove(home: Path) -> None:
    path = home / NAME
    try:
        path.unlink(missing_ok=True)
        if home.is_dir():
            _sync(home)
    except OSError as error:
        raise TidewireError(f"cannot remove {path}: {error.strerror}") from None


def _sync(folder: Path) -> None:
    """The folder's entry, too, must be on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
