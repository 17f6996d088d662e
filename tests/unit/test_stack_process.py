"""What a pid file, a log and a folder's rights say about a server that may not be there any more."""

import json
import os
from pathlib import Path

import pytest

from tidewire.errors import StackError
from tidewire.stack import account, local
from tidewire.stack.postgres import Postgres
from tidewire.stack.process import Account, run_once


def server_in(folder: Path) -> Postgres:
    folder.mkdir(exist_ok=True)
    return Postgres(folder, 21000, folder / "password", folder / "layout.json")


def test_a_number_that_another_program_has_now_is_not_our_server(tmp_path: Path) -> None:
    """After a reboot `down` would otherwise kill whatever got the number."""
    server = server_in(tmp_path)
    assert not server.died()
    (tmp_path / "server.pid").write_text(json.dumps({"pid": os.getpid()}))
    assert server.pid is None
    assert not server.alive()
    assert server.died()
    server.stop()
    assert not server.died()


@pytest.mark.parametrize("text", ["", "123", "[1]", '{"pid": "x"}'])
def test_a_damaged_pid_file_means_not_running(tmp_path: Path, text: str) -> None:
    server = server_in(tmp_path)
    (tmp_path / "server.pid").write_text(text)
    assert not server.alive()


def test_a_full_disk_is_recognised_in_the_log(tmp_path: Path) -> None:
    """A user reads "the disk is full", not the last of fifty lines of PANIC."""
    server = server_in(tmp_path)
    server.log_file.write_text(
        'PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device\nLOG: x\n'
    )
    assert server.reason() == f"the disk of {tmp_path} is full"


def test_else_the_last_error_of_the_log_is_the_reason(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    assert server.reason() == ""
    server.log_file.write_text("LOG: a\nFATAL: first\nLOG: b\nFATAL: the cause\nLOG: c\n")
    assert server.reason() == "FATAL: the cause"


def test_a_failed_command_tells_what_it_wrote() -> None:
    with pytest.raises(StackError, match=r"initdb failed: .*no such thing"):
        run_once(["/bin/sh", "-c", "echo no such thing >&2; exit 3"], what="initdb")


def test_too_little_space_is_said_with_both_numbers(tmp_path: Path) -> None:
    local.check_space(local.MIN_FREE_BYTES, tmp_path)
    with pytest.raises(StackError, match=rf"only 999 MB are free at {tmp_path}; .* need 1000 MB"):
        local.check_space(local.MIN_FREE_BYTES - 1, tmp_path)


@pytest.mark.parametrize(
    ("mode", "reachable"), [(0o755, True), (0o711, True), (0o700, False), (0o750, False)]
)
def test_a_private_folder_above_hides_what_is_below(tmp_path: Path, mode: int, reachable: bool) -> None:
    """Root's clone below /root: PostgreSQL, which runs as another user, could not even find its program."""
    tmp_path.chmod(0o755)
    private = tmp_path / "private"
    below = private / "a" / "b"
    below.mkdir(parents=True)
    private.chmod(mode)
    stranger = Account("stranger", 54321, 54321)
    open_above = all(folder.stat().st_mode & 0o001 for folder in tmp_path.parents)
    assert account.can_reach(below, stranger) == (reachable and open_above)
    assert account.can_reach(below / "not yet there", stranger) == (reachable and open_above)
