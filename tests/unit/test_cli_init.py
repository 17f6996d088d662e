"""`tidewire init`: the list of settings that a user sees must be the list that tidewire reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import cli
from console.commands.init import example
from tidewire import config
from tidewire.config import Settings

ROOT = Path(__file__).parents[2]


def test_the_committed_example_is_its_output() -> None:
    """A setting that was added but not documented is a setting nobody uses."""
    assert (ROOT / ".env.example").read_text("utf-8") == example()


def test_every_setting_is_in_it_with_its_default_and_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uncommented as it stands it must give the defaults: else the first edit of a user breaks the start."""
    lines = example().splitlines()
    for name in Settings.model_fields:
        assert sum(line.startswith(f"#{name.upper()}=") for line in lines) == 1
    uncommented = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in lines]
    (tmp_path / ".env").write_text("\n".join(uncommented))
    before = config.load()
    monkeypatch.chdir(tmp_path)
    after = config.load(
        tidewire_home=before.tidewire_home, tidewire_accounts_file=before.tidewire_accounts_file
    )
    assert after == before


def test_it_does_not_overwrite_what_a_user_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lost notes are lost for good."""
    target = tmp_path / ".env.example"
    assert cli.run(["init", str(tmp_path)]) == 0
    assert target.read_text() == example()
    assert cli.run(["init", str(tmp_path)]) == 0
    target.write_text("mine")
    assert cli.run(["init", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert cli.run(["init", "--force", str(tmp_path)]) == 0
    assert target.read_text() == example()
