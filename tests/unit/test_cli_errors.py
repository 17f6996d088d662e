"""How the command fails: a user reads one message that says what to do, a script gets the right exit code."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from console import cli
from tidewire import __version__
from tidewire.errors import ConfigError, RefusedError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEWIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")


def _verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A verb `broken` that raises."""
    module = ModuleType("broken_verb")

    def broken() -> None:
        """Breaks."""
        raise error

    module.broken = broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_verb", module)
    monkeypatch.setitem(cli._VERBS, "broken", cli._Verb("broken_verb:broken", "Breaks."))


def test_help_names_every_verb_at_once(tmp_path: Path) -> None:
    """Help that takes seconds, or lacks a verb, is why people give up on a tool."""
    code = (
        "import sys\nfrom console import cli\ncode = cli.run(['--help'])\n"
        "heavy = {'polars', 'faust', 'aiokafka', 'alpaca', 'pydantic', 'psycopg'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10  # on a busy machine; the imports above are what makes it slow
    for verb in ("init", "doctor", "stack", "topics", "up", "demo", "verify", "tail", "service", "version"):
        assert f" {verb} " in done.stdout
    assert "tidewire demo --ticks ticks/ --rate max" in done.stdout


@pytest.mark.parametrize("verb", sorted(set(cli._VERBS) - {"version"}))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A verb that cannot even be imported would only be found by a user."""
    assert cli.run([verb, "--help"]) == 0
    assert "Usage: tidewire" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """What a bug report begins with."""
    assert cli.run(["version"]) == 0
    assert capsys.readouterr().out.strip() == f"tidewire {__version__}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demoo"], "Did you mean 'demo'?"),
        (["demo", "--rat", "max"], "--rate"),
        (["demo", "--rate", "fast"], "'fast' is not a rate"),
        (["demo", "--rate", "-3"], "is not a rate"),
        (["demo", "somefile.csv"], "--ticks"),
        (["demo", "--accounts", "0", "--strategy"], "--accounts 0"),
        (["up", "--feed", "nasdaq"], "iex"),
        (["up", "--workers", "0"], "workers"),
        ([], "Usage"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing mistake must be answered with what was meant, and must not start anything."""
    assert cli.run(arguments) == 2
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_our_errors_are_one_message_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback hides the sentence that says what to do."""
    _verb(monkeypatch, RefusedError("Alpaca refuses the keys (402)"))
    assert cli.run(["broken"]) == 5
    said = capsys.readouterr()
    assert said.err == "tidewire: Alpaca refuses the keys (402)\n"
    assert said.out == ""


def test_several_mistakes_stand_below_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One start, all mistakes: not one after the other."""
    _verb(monkeypatch, ConfigError(["A is wrong", "B is wrong"]))
    assert cli.run(["broken"]) == 2
    assert capsys.readouterr().err == "tidewire: \n  - A is wrong\n  - B is wrong\n"


def test_a_wrong_environment_value_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt setting that is ignored in silence runs the wrong thing."""
    monkeypatch.setenv("TIDEWIRE_FEED", "nasdaq")
    monkeypatch.setenv("TIDEWIRE_SYMBOL", "AAPL")
    assert cli.run(["up"]) == 2
    said = capsys.readouterr().err
    assert "TIDEWIRE_FEED" in said
    assert "did you mean TIDEWIRE_SYMBOLS?" in said


def test_up_without_keys_says_where_to_get_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The first thing that a new user of `up` meets; and nothing may have been started or written by then."""
    assert cli.run(["up"]) == 2
    said = capsys.readouterr().err
    assert "https://app.alpaca.markets" in said
    assert "tidewire demo" in said
    assert not (tmp_path / "home").exists()


def test_ticks_that_are_not_there_are_all_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A misspelt path must not play the rest of the input and report that as complete."""
    (tmp_path / "there.csv").write_text("")
    assert cli.run(["demo", "--ticks", "there.csv", "nope.csv", "--ticks", "neither", "--rate", "max"]) == 2
    said = capsys.readouterr().err
    assert "nope.csv" in said
    assert "neither" in said
    assert "there.csv" not in said.replace("neither", "")
    assert not (tmp_path / "home").exists()


def test_a_mistake_of_ours_is_short_and_its_traceback_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The user gets a sentence, the maintainer the traceback."""
    _verb(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.run(["broken"]) == 70
    said = capsys.readouterr().err
    log = tmp_path / "home" / "logs" / "crash.log"
    assert "Traceback" not in said
    assert str(log) in said
    assert "Traceback" in log.read_text()
    assert "ZeroDivisionError: by zero" in log.read_text()


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for it gets it on the screen."""
    _verb(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.run(["--debug", "broken"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_crash_with_unreadable_settings_is_still_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writing the crash log must not fail louder than the crash."""
    monkeypatch.setenv("TIDEWIRE_FEED", "nasdaq")
    _verb(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.run(["broken"]) == 70
    assert "--debug" in capsys.readouterr().err


def test_ctrl_c_is_no_error_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who presses Ctrl-C knows why it ended."""
    _verb(monkeypatch, KeyboardInterrupt())
    assert cli.run(["broken"]) == 130
    assert capsys.readouterr().err == ""
