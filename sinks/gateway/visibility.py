"""Who sees which accounts: accounts.toml, read at the start and again when the file changes."""

from __future__ import annotations

from pathlib import Path

from tidewire import accounts, log
from tidewire.config import Settings
from tidewire.errors import ConfigError

_log = log.get(__name__)


class Visibility:
    """The accounts of each user.

    Raises (when made):
        ConfigError: every mistake of accounts.toml.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._accounts = accounts.load(settings)
        self._stamp = _stamp(settings.tidewire_accounts_file)

    def of(self, user: str) -> tuple[str, ...]:
        """The names of the accounts that a user sees, in order."""
        return tuple(sorted(accounts.visible_to(self._accounts, user)))

    def refresh(self) -> set[str]:
        """Read the file again if it has changed; returns the users whose accounts changed.

        A file with mistakes changes nothing: they are logged, and what was read before stays.
        """
        stamp = _stamp(self._settings.tidewire_accounts_file)
        if stamp == self._stamp:
            return set()
        self._stamp = stamp
        try:
            loaded = accounts.load(self._settings)
        except ConfigError as error:
            _log.error("accounts.toml has mistakes: the accounts of before stay", problems=error.problems)
            return set()
        before, self._accounts = self._accounts, loaded
        users = {user for account in (*before, *loaded) for user in account.users}
        return {u for u in users if accounts.visible_to(before, u) != accounts.visible_to(loaded, u)}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
