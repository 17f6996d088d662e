"""What a home remembers from start to start: how many brokers, which ports, where PostgreSQL's data is."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tidewire.errors import StackError

# Below the ranges from which Linux and macOS take the ports of outgoing connections: a remembered port must
# not be taken by somebody's browser while the stack is down.
PORTS = range(20_000, 32_000)


@dataclass(slots=True)
class Layout:
    """The remembered choices of one home."""

    brokers: int = 1
    ports: dict[str, int] = field(default_factory=dict)
    cluster_id: str = ""
    postgres_folder: str | None = None


def load(path: Path) -> Layout:
    """The layout of a home; a fresh one where there is none.

    Raises:
        StackError: the file is not readable as a layout.
    """
    try:
        return Layout(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Layout()
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{path} is damaged ({error}): `tidewire stack down --wipe` starts afresh"
        ) from error


def load_if_readable(path: Path) -> Layout:
    """The layout for a home that is to be deleted anyway: a damaged file counts as none."""
    try:
        return load(path)
    except StackError:
        return Layout()


def save(layout: Layout, path: Path) -> None:
    """Write the layout, whole or not at all."""
    write_private(path, json.dumps(asdict(layout), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(draft, path)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a closed server's TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(layout: Layout, names: Sequence[str], free: Callable[[int], bool] = is_free) -> None:
    """Give every name that has none a free port; a remembered one is never changed."""
    for name in names:
        if name not in layout.ports:
            layout.ports[name] = _free_port(set(layout.ports.values()), free)


def _free_port(taken: set[int], free: Callable[[int], bool]) -> int:
    first = random.randrange(len(PORTS))  # not the lowest: two stacks made at once would meet there
    for port in (PORTS[(first + step) % len(PORTS)] for step in range(len(PORTS))):
        if port not in taken and free(port):
            return port
    raise StackError(f"no free port between {PORTS.start} and {PORTS.stop - 1} on 127.0.0.1")


def check_port(port: int, server: str, layout_file: Path) -> None:
    """Refuse to start on a remembered port that somebody else has taken meanwhile.

    Raises:
        StackError: names the port, its owner where the system tells it, and what to do.
    """
    if is_free(port):
        return
    raise StackError(
        f"port {port}, which is kept for {server}, is in use by {_owner(port)}. End that program, "
        f"or change the port in {layout_file} (the data stays) and start again."
    )


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    break
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:  # only root may look into other users' processes
        pass
    return "another program"
