"""Kafka and PostgreSQL together: one home, one lock, one file that says where they listen."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from tidewire.errors import StackError
from tidewire.stack import addresses, jars, layout
from tidewire.stack.addresses import StackAddresses
from tidewire.stack.jars import Progress
from tidewire.stack.kafka import Broker, Cluster, Node
from tidewire.stack.layout import Layout
from tidewire.stack.postgres import Postgres, choose_folder
from tidewire.stack.process import ServerProcess

MIN_FREE_BYTES = 1_000_000_000
_LOCK_SECONDS = 180
_POLL_SECONDS = 0.1

State = Literal["running", "killed", "stopped"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One line of `tidewire stack status`. `detail` says why a killed server is gone, where its log tells."""

    name: str
    state: State
    address: str
    pid: int | None
    folder: str
    detail: str


def _silent(_: str) -> None:
    return


class LocalStack:
    """The servers of one home folder; their data and ports stay from start to start.

    `brokers` is 1 or 3 and is decided at the first start; None means what the home has.
    """

    def __init__(self, home: Path, brokers: int | None = None) -> None:
        self.home = home.resolve()
        self._wanted_brokers = brokers
        self._layout_file = self.home / "layout.json"
        self._progress: Progress = _silent

    # -- the servers

    @property
    def servers(self) -> tuple[ServerProcess, ...]:
        """All servers, brokers first. Each can be started, stopped and asked by itself."""
        return (*self.brokers, self.postgres)

    @cached_property
    def brokers(self) -> tuple[Broker, ...]:
        """Kafka's brokers."""
        cluster = self._cluster
        return tuple(
            Broker(
                cluster,
                node,
                self.home / "kafka" / str(node.id),
                lambda: jars.classpath(self._progress),
                self._layout_file,
            )
            for node in cluster.nodes
        )

    @cached_property
    def postgres(self) -> Postgres:
        """The database server."""
        memory = self._layout
        assert memory.postgres_folder is not None
        return Postgres(
            Path(memory.postgres_folder),
            memory.ports["postgres"],
            self.home / "postgres-password",
            self._layout_file,
        )

    # -- all together

    def up(self, progress: Progress = _silent) -> StackAddresses:
        """Start what does not run and return when all of it answers.

        Raises:
            StackError: a server cannot be started; those that this call did start are stopped again.
        """
        self._progress = progress
        self._check_home()
        with self._lock():
            before = {server.name for server in self.servers if server.alive()}
            try:
                with ThreadPoolExecutor(2) as pool:
                    starts = [pool.submit(self._start_brokers), pool.submit(self._start_postgres)]
                    for start in starts:
                        start.result()
            except BaseException:  # Ctrl-C too
                self._stop([server for server in self.servers if server.name not in before])
                raise
            found = StackAddresses(self._cluster.bootstrap, self.postgres.url)
            addresses.write(found, addresses.stack_file(self.home))
        return found

    def start_kafka(self) -> str:
        """Start Kafka alone; returns its bootstrap servers.

        Raises:
            StackError: as `up`.
        """
        self._check_home()
        with self._lock():
            self._start_brokers()
        return self._cluster.bootstrap

    def start_postgres(self) -> str:
        """Start PostgreSQL alone; returns its URL, password included.

        Raises:
            StackError: as `up`.
        """
        self._check_home()
        with self._lock():
            self._start_postgres()
        return self.postgres.url

    def down(self) -> None:
        """Stop everything cleanly and wait until it is gone; does nothing when nothing runs."""
        if not self._layout_file.exists():
            return
        with self._lock():
            addresses.stack_file(self.home).unlink(missing_ok=True)
            self._stop(list(self.servers))

    def wipe(self) -> None:
        """Stop everything and delete the data, the ports and the password of this home."""
        self.down()
        memory = layout.load_if_readable(self._layout_file)
        for folder in (self.home / "kafka", self.home / "postgres", memory.postgres_folder):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        for file in (self.home / "postgres-password", self._layout_file):
            file.unlink(missing_ok=True)
        for name in ("_layout", "_cluster", "brokers", "postgres"):
            self.__dict__.pop(name, None)

    def status(self) -> list[ServerStatus]:
        """What each server does now; empty for a home that has never had a stack."""
        if not self._layout_file.exists():
            return []
        return [_status(server) for server in self.servers]

    # -- how

    def _start_brokers(self) -> None:
        waiting = [broker for broker in self.brokers if not broker.alive()]
        if waiting:
            jars.classpath(self._progress)  # once, before three brokers would fetch it at the same time
            self._progress("starting Apache Kafka")
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.launch, waiting))
        for broker in self.brokers:
            broker.wait_ready()
        self._progress(f"Apache Kafka answers on {self._cluster.bootstrap}")

    def _start_postgres(self) -> None:
        if not self.postgres.alive():
            self._progress("starting PostgreSQL")
        self.postgres.start()
        self._progress(f"PostgreSQL answers on {self.postgres.address}")

    def _stop(self, servers: list[ServerProcess]) -> None:
        brokers = [server for server in servers if isinstance(server, Broker)]
        for broker in brokers:
            broker.ask_to_stop()
        for server in servers:
            server.stop()

    def _check_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.home).free
        except OSError as error:
            raise StackError(
                f"cannot use {self.home}: {error.strerror}. TIDEWIRE_HOME names another folder."
            ) from error
        check_space(free, self.home)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        deadline = time.monotonic() + _LOCK_SECONDS
        with (self.home / "stack.lock").open("w") as file:
            said = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another tidewire starts or stops {self.home}, for {_LOCK_SECONDS} s now"
                        ) from None
                if not said:
                    self._progress("waiting for another tidewire that starts or stops this stack")
                    said = True
                time.sleep(_POLL_SECONDS)
            yield

    @cached_property
    def _layout(self) -> Layout:
        memory = layout.load(self._layout_file)
        fresh = not memory.ports
        wanted = self._wanted_brokers or memory.brokers
        if not fresh and wanted != memory.brokers:
            raise StackError(
                f"{self.home} holds a Kafka of {memory.brokers} broker(s), not {wanted}: "
                "`tidewire stack down --wipe` deletes it, TIDEWIRE_HOME names another folder"
            )
        memory.brokers = wanted
        memory.cluster_id = memory.cluster_id or _new_cluster_id()
        memory.postgres_folder = memory.postgres_folder or str(choose_folder(self.home, self._progress))
        names = [name for number in range(1, wanted + 1) for name in _port_names(number)]
        layout.choose_ports(memory, [*names, "postgres"])
        layout.save(memory, self._layout_file)
        return memory

    @cached_property
    def _cluster(self) -> Cluster:
        memory = self._layout
        nodes = []
        for number in range(1, memory.brokers + 1):
            port, controller_port = (memory.ports[name] for name in _port_names(number))
            nodes.append(Node(number, port, controller_port))
        return Cluster(memory.cluster_id, tuple(nodes))


def check_space(free: int, home: Path, minimum: int = MIN_FREE_BYTES) -> None:
    """Refuse to start on a disk that is about to be full.

    Raises:
        StackError: fewer than `minimum` bytes are free.
    """
    if free < minimum:
        raise StackError(
            f"only {free // 1_000_000} MB are free at {home}; Kafka and PostgreSQL need "
            f"{minimum // 1_000_000} MB to start. Free some space, or let TIDEWIRE_HOME name another disk."
        )


def _port_names(node_id: int) -> tuple[str, str]:
    return f"kafka-{node_id}", f"kafka-{node_id}-controller"


def _new_cluster_id() -> str:
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # Kafka's tool would take it for an option
            return text


def _status(server: ServerProcess) -> ServerStatus:
    pid = server.pid
    state: State = "running" if pid else "killed" if server.died() else "stopped"
    detail = server.reason() if state == "killed" else ""
    return ServerStatus(server.name, state, server.address, pid, str(server.folder), detail)
