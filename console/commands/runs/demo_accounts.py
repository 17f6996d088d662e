"""The demo's brokerage accounts and users: two simulated accounts, one user each, made anew every time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from console.screen.gateway_side import PUSHED, GatewaySide
from sinks.gateway import users
from tidewire.config import Settings

KEY, SECRET = "demo-key", "demo-secret"
USERS = ("demo", "other")
"""The user of account number 1, of number 2."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """How people and this run's own screen get in."""

    gateway_url: str
    link: str
    client: GatewaySide


def key_pair(number: int) -> tuple[str, str]:
    """Key id and secret of the simulator's account `number`, counted from 1."""
    return (KEY, SECRET) if number == 1 else (f"{KEY}-{number}", f"{SECRET}-{number}")


def write_accounts(home: Path, count: int = len(USERS)) -> Path:
    """accounts.toml and its key files below `home`; returns the path of the former."""
    folder = home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for number in range(1, count + 1):
        key_file = folder / f"demo-{number}.key"
        key_file.touch(mode=0o600)
        key_file.chmod(0o600)
        key_file.write_text("\n".join(key_pair(number)) + "\n", "utf-8")
        users_ = f'["{USERS[number - 1]}"]' if number <= len(USERS) else "[]"
        tables.append(f'[accounts.demo-{number}]\nkey_file = "{key_file.name}"\nusers = {users_}\n')
    path = folder / "accounts.toml"
    path.write_text("\n".join(tables), "utf-8")
    return path


def sign_in(settings: Settings, gateway_url: str) -> SignIn:
    """Make the users, a one-time link for a browser, and a session for this run's screen.

    Raises:
        UnreachableError: PostgreSQL does not answer.
    """
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    for name in USERS:
        users.ensure_user(url, name)
    link = f"{gateway_url}/sign-in/{users.one_time_link(url, USERS[0])}"
    cookie = users.mint_session(url, USERS[0])
    record = settings.tidewire_home / PUSHED
    return SignIn(gateway_url, link, GatewaySide(gateway_url, cookie, record, ("demo-1",)))
