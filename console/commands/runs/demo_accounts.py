"""The demo's brokerage accounts and users: two simulated accounts, one user each, made anew every time.

Every position has exits by default, near enough that some fire within a minute of the synthetic market.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from console.screen.gateway_side import GatewaySide
from simulator.options import key_pair
from sinks.gateway import users
from tidewire.config import Settings
from tidewire.supervision import run_files
from verify.orders_read import PUSHED

ACCOUNTS = 2
_FIRST_USERS = {1: "demo", 2: "other"}
_EXITS = (
    ("stop_loss", "percent", "0.15"),
    ("take_profit", "percent", "0.2"),
    ("trailing_stop", "trail_percent", "0.1"),
)
_ASSET_CLASSES = ("us_equity", "crypto")


@dataclass(frozen=True, slots=True)
class SignIn:
    """How people and this run's own screen get in."""

    gateway_url: str
    link: str
    client: GatewaySide


def user_of(number: int) -> str:
    """The user who may see account `number`, and no other."""
    return _FIRST_USERS.get(number, f"user-{number}")


def write_accounts(home: Path, count: int = ACCOUNTS, *, exits: bool = True) -> Path:
    """accounts.toml and its key files below `home`; returns the path of the former. No account: no file.

    `exits`: every position has default exits.
    """
    path = run_files.demo_accounts_file(home)
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not count:
        path.unlink(missing_ok=True)
        return path
    tables = []
    for number in range(1, count + 1):
        key_file = folder / f"demo-{number}.key"
        key_file.touch(mode=0o600)
        key_file.chmod(0o600)
        key_file.write_text("\n".join(key_pair(number)) + "\n", "utf-8")
        tables.append(
            f'[accounts.demo-{number}]\nkey_file = "{key_file.name}"\nusers = ["{user_of(number)}"]\n'
        )
        tables += [_exits(number, asset_class) for asset_class in _ASSET_CLASSES if exits]
    path.write_text("\n".join(tables), "utf-8")
    return path


def _exits(number: int, asset_class: str) -> str:
    """The default rules of an account's positions of a class, as TOML."""
    head = f"[[accounts.demo-{number}.exits.{asset_class}]]"
    return "".join(f'{head}\nkind = "{kind}"\n{measure} = {percent}\n' for kind, measure, percent in _EXITS)


def sign_in(settings: Settings, gateway_url: str, count: int = ACCOUNTS) -> SignIn:
    """Make the users, a one-time link for a browser, and a session for this run's screen.

    Without any account there is a first user all the same, who sees prices.

    Raises:
        UnreachableError: PostgreSQL does not answer.
    """
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    for number in range(1, max(count, 1) + 1):
        users.ensure_user(url, user_of(number))
    link = f"{gateway_url}/sign-in/{users.one_time_link(url, user_of(1))}"
    cookie = users.mint_session(url, user_of(1))
    record = settings.tidewire_home / PUSHED
    return SignIn(gateway_url, link, GatewaySide(gateway_url, cookie, record, ("demo-1",)[:count]))
