"""Ports stay what they were: a user's configuration, and a restarted service, still find the servers."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.errors import StackError
from tidewire.stack import layout
from tidewire.stack.layout import PORTS, Layout


@given(
    remembered=st.dictionaries(
        st.sampled_from("abcdef"), st.integers(PORTS.start, PORTS.stop - 1), max_size=4
    ),
    names=st.lists(st.sampled_from("abcdef"), unique=True),
    busy=st.sets(st.integers(PORTS.start, PORTS.stop - 1), max_size=200),
)
def test_remembered_ports_never_change_and_new_ones_are_free(
    remembered: dict[str, int], names: list[str], busy: set[int]
) -> None:
    memory = Layout(ports=dict(remembered))
    layout.choose_ports(memory, names, lambda port: port not in busy)
    assert {name: memory.ports[name] for name in remembered} == remembered
    new = [memory.ports[name] for name in names if name not in remembered]
    assert len({*new, *remembered.values()}) == len(new) + len(set(remembered.values()))
    assert all(port in PORTS and port not in busy for port in new)


def test_no_free_port_is_said() -> None:
    with pytest.raises(StackError, match="no free port"):
        layout.choose_ports(Layout(), ["kafka"], lambda _: False)


def test_the_layout_survives_a_restart(tmp_path: Path) -> None:
    memory = Layout(brokers=3, ports={"postgres": 21000}, cluster_id="x", postgres_folder="/var/y")
    layout.save(memory, tmp_path / "run" / "layout.json")
    assert layout.load(tmp_path / "run" / "layout.json") == memory


@pytest.mark.parametrize("text", ["", "{", '{"unknown": 1}', "[]", "3"])
def test_a_damaged_layout_is_one_readable_error(tmp_path: Path, text: str) -> None:
    """Guessing instead would start an empty cluster on other ports, beside the user's data."""
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(StackError, match=r"layout\.json is damaged"):
        layout.load(tmp_path / "layout.json")


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not layout.is_free(port)
        with pytest.raises(StackError) as refused:
            layout.check_port(port, "postgres", Path("/home/u/.tidewire/layout.json"))
    message = str(refused.value)
    assert f"port {port}," in message
    assert "/home/u/.tidewire/layout.json" in message
    assert f"(pid {os.getpid()})" in message or "another program" in message
    assert layout.is_free(port)


def test_private_files_are_private_from_their_first_byte(tmp_path: Path) -> None:
    """The password of a superuser is in them."""
    before = os.umask(0)
    try:
        layout.write_private(tmp_path / "password", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["password"]
