"""Which user PostgreSQL runs as, and whether that user can reach a file.

PostgreSQL refuses to run as root. Started by root it runs as an unprivileged user, who must be able to reach
its program and its data: not so when they are below a private folder such as /root.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from pathlib import Path

from tidewire.errors import StackError
from tidewire.stack.process import Account

_CANDIDATES = ("postgres", "nobody")
# Where root keeps what an unprivileged user must reach, when the home is in a private folder.
OPEN_FOLDER = Path("/var/lib/tidewire" if sys.platform == "linux" else "/usr/local/var/tidewire")


def server_account() -> Account | None:
    """The account to run PostgreSQL as; None for our own.

    Raises:
        StackError: we are root and the system has no unprivileged user for it.
    """
    if os.geteuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root, and this system has no user postgres or nobody to run it as. "
        "Add one (useradd --system postgres), or run tidewire as an ordinary user."
    )


def can_reach(path: Path, account: Account) -> bool:
    """Whether the account can pass every folder above `path` and, where it exists, read it itself."""
    path = path.resolve()
    for folder in path.parents:
        try:
            if not _may(folder.stat(), account, stat.S_IXUSR):
                return False
        except FileNotFoundError:
            continue  # it will be made by us, and opened to all
    return not path.exists() or _may(path.stat(), account, stat.S_IRUSR)


def _may(status: os.stat_result, account: Account, owner_bit: int) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & owner_bit)
    if status.st_gid == account.gid:
        return bool(status.st_mode & owner_bit >> 3)
    return bool(status.st_mode & owner_bit >> 6)
