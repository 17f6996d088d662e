"""The kill switch's file, and limits of accounts.toml: what cannot be read stops, what is wrong is told.

A switch that is off because its file was half written is no switch.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from sinks.executor import kill_file
from sinks.executor.kill_file import ALL, why_on
from tidewire import accounts, config, risk_limits
from tidewire.errors import ConfigError, TidewireError


def test_on_and_off_for_all_and_for_one(tmp_path: Path) -> None:
    """Stopping one account must not stop another, and stopping all must stop each."""
    assert why_on(tmp_path, "one") is None
    kill_file.set_on(tmp_path, "one", "odd fills")
    assert "odd fills" in (why_on(tmp_path, "one") or "")
    assert why_on(tmp_path, "two") is None
    kill_file.set_on(tmp_path, ALL, "fire")
    assert "fire" in (why_on(tmp_path, "two") or "")
    kill_file.set_off(tmp_path, "one")
    assert why_on(tmp_path, "one") is not None  # all are stopped still
    kill_file.set_off(tmp_path, ALL)
    assert why_on(tmp_path, "one") is None
    kill_file.set_off(tmp_path, "one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b'{"on": {"on', b"[]", b'{"on": {}}', b'{"on": []}', b'{"off": {}}', b"\xff\xfe",
     b"off", b'{"on": {"one": 1}}', b"null"],
)  # fmt: skip
def test_what_is_not_understood_stops_everybody(tmp_path: Path, content: bytes) -> None:
    """Half a write, an empty file of `touch`, rubbish: nobody may order."""
    (tmp_path / "kill").write_bytes(content)
    assert why_on(tmp_path, "one") is not None
    kill_file.set_on(tmp_path, "two", "")
    assert why_on(tmp_path, "one") is not None  # naming one must not free the others
    kill_file.set_off(tmp_path, ALL)
    assert why_on(tmp_path, "one") is None


def test_what_cannot_be_read_stops_everybody(tmp_path: Path) -> None:
    """A folder in its place, a home that is gone (a volume that is not mounted): nobody may order."""
    (tmp_path / "kill").mkdir()
    assert why_on(tmp_path, "one") is not None
    with pytest.raises(TidewireError):
        kill_file.set_off(tmp_path, "one")
    assert why_on(tmp_path / "gone", "one") is not None
    (tmp_path / "kill").rmdir()
    (tmp_path / "kill").write_text("{}")
    with pytest.raises(TidewireError):
        kill_file.set_off(tmp_path, "one")
    if os.geteuid():
        (tmp_path / "kill").chmod(0)
        assert why_on(tmp_path, "one") is not None


def test_every_beginning_of_the_file_stops(tmp_path: Path) -> None:
    """However far a write came: no part of the file may let orders of the named account pass."""
    kill_file.set_on(tmp_path, "one", "reason")
    whole = (tmp_path / "kill").read_bytes()
    for length in range(len(whole) + 1):
        (tmp_path / "kill").write_bytes(whole[:length])
        assert why_on(tmp_path, "one") is not None


TOML = """
admins = ["anna"]
[accounts.one]
[accounts.one.risk]
max_quantity = 100
max_notional = "2500.50"
price_band_percent = 2.5
orders_per_minute = 10
max_daily_loss = "none"
allow_short = true
duplicate_seconds = 0
dry_run = true
[accounts.two]
"""


def read(tmp_path: Path, text: str) -> tuple[accounts.Account, ...]:
    (tmp_path / "accounts.toml").write_text(text)
    return accounts.load(config.load(_env_file=None, tidewire_accounts_file=tmp_path / "accounts.toml"))


def test_limits_are_read_exactly_and_safe_without_any(tmp_path: Path) -> None:
    """An account without limits of its own must have some."""
    one, two = read(tmp_path, TOML)
    assert one.risk == risk_limits.RiskLimits(
        Decimal(100), Decimal("2500.50"), Decimal("2.5"), 10, None, True, Decimal(0), dry_run=True
    )
    assert two.risk == risk_limits.SAFE
    assert None not in (two.risk.max_quantity, two.risk.max_notional, two.risk.max_daily_loss)
    assert not two.risk.allow_short
    found = config.load(_env_file=None, tidewire_accounts_file=tmp_path / "accounts.toml")
    assert accounts.admins(found) == {"anna"}


def test_all_mistakes_in_limits_are_told_at_once(tmp_path: Path) -> None:
    """A limit that is misspelt would otherwise simply not hold."""
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            'admins = "anna"\n[accounts.one]\n[accounts.one.risk]\nmax_quantiy = 1\nmax_notional = -5\n'
            'price_band_percent = "nan"\norders_per_minute = 201\nallow_short = "yes"\n'
            "max_daily_loss = true\n"
            "[accounts.two]\nrisk = 5\n",
        )
    text = str(caught.value)
    for part in (
        "admins must be", "unknown key max_quantiy", "max_notional must be", "price_band_percent must be",
        "orders_per_minute must be", "allow_short must be", "max_daily_loss must be",
        "two.risk is not a table",
    ):  # fmt: skip
        assert part in text
