"""`tidewire accounts`: a wrong key file or key must be found before trading, and never be shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from console import cli
from console.commands.accounts import _wrong_side
from tests.integration.trading_server import Broker
from tidewire import accounts, config

KEYS = ("GOODKEYID123", "GOODSECRET456")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEWIRE_HOME", str(tmp_path / "home"))
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    for name, lines in (("good", KEYS), ("bad", ("BADKEYID1234", "BADSECRET456")), ("open", KEYS)):
        (tmp_path / name).write_text("\n".join(lines))
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    return tmp_path


def _file(folder: Path, *names: str) -> None:
    tables = [f'[accounts.{name}]\nkey_file = "{name}"\nusers = ["anna"]\n' for name in names]
    (folder / "accounts.toml").write_text("".join(tables))


async def test_check_says_which_account_is_not_in_order_and_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A revoked key would be noticed when the first order fails."""
    async with Broker(*KEYS) as url:
        monkeypatch.setenv("TIDEWIRE_TRADING_URL", url)
        _file(folder, "good")
        assert await asyncio.to_thread(cli.run, ["accounts", "check"]) == 0
        shown = capsys.readouterr()
        assert "in order" in shown.out
        assert "ACTIVE" in shown.out
        _file(folder, "good", "bad", "open", "missing")
        assert await asyncio.to_thread(cli.run, ["accounts", "check", "--json"]) == 1
        answer = capsys.readouterr()
        assert await asyncio.to_thread(cli.run, ["accounts", "list"]) == 0
        listed = capsys.readouterr()
    results = {result["name"]: result["problems"] for result in json.loads(answer.out)}
    assert results["good"] == []
    assert "HTTP 401" in results["bad"][0]
    assert "chmod 600" in results["open"][0]
    assert "No such file" in results["missing"][0]
    assert "not in order: bad, open, missing" in answer.err
    everything = "".join((*shown, *answer, *listed))
    assert not any(part in everything for part in (*KEYS, "BADKEYID1234", "BADSECRET456"))


def test_the_example_is_a_whole_accounts_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever copies the example would get an error."""
    assert cli.run(["accounts", "example"]) == 0
    (folder / "accounts.toml").write_text(capsys.readouterr().out)
    found = accounts.load(config.load(_env_file=None, tidewire_allow_live=True))
    assert [(a.name, a.mode) for a in found] == [("paper-1", "paper"), ("main", "live"), ("lab", "paper")]


def test_paper_keys_do_not_pass_for_live_ones() -> None:
    """An account that its owner takes for paper would trade real money."""
    settings = config.load(_env_file=None)
    assert not _wrong_side({"account_number": "PA3XYZ"}, "paper", settings)
    assert not _wrong_side({"account_number": "123456789"}, "live", settings)
    assert _wrong_side({"account_number": "123456789"}, "paper", settings)
    assert _wrong_side({"account_number": "PA3XYZ"}, "live", settings)
