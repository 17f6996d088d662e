"""Services find the local stack where the environment names no server, and only there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.commands.stack import app
from tidewire import config
from tidewire.errors import StackError
from tidewire.stack import LocalStack, StackAddresses, fill_in
from tidewire.stack.addresses import read, stack_file, write

HERE = StackAddresses("127.0.0.1:20001", "postgresql://tidewire:pw@127.0.0.1:20002/tidewire")


@pytest.fixture(autouse=True)
def _no_servers_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIDEWIRE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def load(home: Path, **named: object) -> config.Settings:
    return config.load(_env_file=None, tidewire_home=home, **named)


def test_both_come_from_the_stack(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.stack_file == stack_file(tmp_path)
    write(HERE, settings.stack_file)
    filled = fill_in(settings)
    assert filled.kafka_bootstrap_servers == HERE.kafka_bootstrap
    assert filled.database_url is not None
    assert filled.database_url.get_secret_value() == HERE.database_url
    assert "pw" not in repr(filled)


def test_what_the_environment_names_wins(tmp_path: Path) -> None:
    """A user's own database must never be swapped for an empty local one."""
    write(HERE, stack_file(tmp_path))
    filled = fill_in(load(tmp_path, kafka_bootstrap_servers="k:1", kafka_security_protocol="SSL"))
    assert filled.kafka_bootstrap_servers == "k:1"
    assert filled.kafka_security_protocol == "SSL"
    assert filled.database_url is not None
    filled = fill_in(load(tmp_path, database_url="postgresql://else", kafka_security_protocol="SSL"))
    assert filled.database_url is not None
    assert filled.database_url.get_secret_value() == "postgresql://else"
    assert filled.kafka_security_protocol == "PLAINTEXT", "the local broker has no TLS"


@pytest.mark.parametrize("text", [None, "", "{}", '{"kafka_bootstrap": 1}', "[]"])
def test_without_a_stack_nothing_is_filled_in(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        stack_file(tmp_path).parent.mkdir()
        stack_file(tmp_path).write_text(text)
    assert read(stack_file(tmp_path)) is None
    settings = load(tmp_path)
    assert fill_in(settings) == settings


def test_status_of_a_home_without_a_stack_changes_nothing(tmp_path: Path) -> None:
    assert LocalStack(tmp_path).status() == []
    LocalStack(tmp_path).down()
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == StackError.exit_code
    assert "`tidewire stack up` makes one" in result.output
    result = CliRunner().invoke(app, ["status", "--json"])
    assert '"running": false' in result.output
    assert list(tmp_path.iterdir()) == []


def test_two_brokers_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Two brokers lose their quorum with either of them: worse than one."""
    result = CliRunner().invoke(app, ["up", "--brokers", "2"])
    assert isinstance(result.exception, StackError)
    assert "1 or 3" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_help_shows_examples(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"tidewire stack {command}" in result.output
