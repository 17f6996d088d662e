"""Set-up does its work once, and again when what it was made from has changed."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = _load()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in bootstrap.INPUTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_finished_set_up_is_not_repeated(checkout: Path) -> None:
    """`make demo` sets up first: it must cost nothing the second time."""
    venv = checkout / ".venv"
    wanted = bootstrap.fingerprint(checkout, "3.11.7")
    assert not bootstrap.is_done(venv, wanted)
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "tidewire").touch()
    assert not bootstrap.is_done(venv, wanted), "interrupted before the end"
    (venv / "tidewire-setup").write_text(wanted)
    assert bootstrap.is_done(venv, wanted)
    (venv / "bin" / "tidewire").unlink()
    assert not bootstrap.is_done(venv, wanted), "somebody emptied .venv"


@pytest.mark.parametrize("name", bootstrap.INPUTS)
def test_a_changed_input_is_noticed(checkout: Path, name: str) -> None:
    """After `git pull` a new dependency would otherwise be missing at run time."""
    before = bootstrap.fingerprint(checkout, "3.11.7")
    with (checkout / name).open("a") as file:
        file.write("\n# changed\n")
    assert bootstrap.fingerprint(checkout, "3.11.7") != before


def test_another_python_or_a_moved_folder_is_noticed(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The command in .venv/bin has the folder's path in its first line."""
    before = bootstrap.fingerprint(checkout, "3.11.7")
    assert bootstrap.fingerprint(checkout, "3.12.0") != before
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.copytree(checkout, moved)
    assert bootstrap.fingerprint(moved, "3.11.7") != before


def test_an_old_python_is_told_what_to_do() -> None:
    bootstrap.check_python((3, 11))
    bootstrap.check_python((3, 14))
    with pytest.raises(
        bootstrap.SetupError, match=r"needs Python 3\.11 or newer, this is 3\.9 .*PYTHON=python3"
    ):
        bootstrap.check_python((3, 9))


def test_set_up_needs_nothing_but_the_standard_library() -> None:
    """It runs before anything is installed."""
    import sys

    text = (ROOT / "bootstrap.py").read_text()
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(imported) <= set(sys.stdlib_module_names)


def test_every_locked_package_has_its_hashes() -> None:
    """--require-hashes refuses the whole lock for one line without."""
    text = (ROOT / "requirements.lock").read_text()
    pinned = re.split(r"^(?=\S+==)", text, flags=re.MULTILINE)[1:]
    assert len(pinned) > 50
    assert [part.split("==")[0] for part in pinned if "--hash=sha256:" not in part] == []
