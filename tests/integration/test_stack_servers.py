"""The local stack with real servers: what is left when one is killed, a port is taken, a broker is lost."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas import admin
from tidewire import config
from tidewire.errors import StackError
from tidewire.stack import LocalStack, jars
from tidewire.stack.addresses import read, stack_file

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tidewire-stack-"))
    folder.chmod(0o755)
    yield folder
    LocalStack(folder).wipe()
    shutil.rmtree(folder)


def eventually(holds: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.1)


def create_topic(bootstrap: str, copies: int = 1) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    client.create_topics([NewTopic(name, 1, copies)])[name].result(30)
    return name


def creates(bootstrap: str, copies: int) -> bool:
    try:
        create_topic(bootstrap, copies)
    except KafkaException:
        return False
    return True


async def create_as_services_do(bootstrap: str, copies: int) -> None:
    async with admin.connect(config.load(_env_file=None, kafka_bootstrap_servers=bootstrap)) as cluster:
        await cluster.create([admin.Topic(f"t-{uuid.uuid4().hex[:8]}", 1)], copies)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    failures: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.produce(topic, value, partition=0, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(30) == 0
    assert failures == [None]


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "log_level": 0})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() or b"" for message in consumer.consume(count, timeout=30)]
    finally:
        consumer.close()


def states(stack: LocalStack) -> dict[str, str]:
    return {server.name: server.state for server in stack.status()}


def processes_of(home: Path) -> list[list[str]]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(str(home) in part for part in command):
            found.append(command)
    return found


def test_killed_servers_are_reported_and_come_back_with_their_data(home: Path) -> None:
    """A crash must cost neither a committed row, nor an acknowledged record, nor the addresses."""
    stack = LocalStack(home)
    first = stack.up()
    topic = create_topic(first.kafka_bootstrap)
    produce(first.kafka_bootstrap, topic, b"before the crash")
    with psycopg.connect(first.database_url) as database:
        database.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    other = LocalStack(home)  # as another command would see it
    assert states(other) == {"kafka": "running", "postgres": "running"}
    assert read(stack_file(home)) == first
    for server in stack.servers:
        assert os.getsid(server.pid or 0) != os.getsid(0), "Ctrl-C in the terminal would reach it"
        server.kill()
    assert states(other) == {"kafka": "killed", "postgres": "killed"}

    # A pid file of the dead server may name a number that another program has by now.
    (stack.postgres.folder / "server.pid").write_text(f'{{"pid": {os.getpid()}}}')
    recorded = stack.postgres.data / "postmaster.pid"
    recorded.write_text("\n".join([str(os.getpid()), *recorded.read_text().splitlines()[1:]]) + "\n")

    assert other.up() == first
    produce(first.kafka_bootstrap, topic, b"after it")
    assert consume(first.kafka_bootstrap, topic, 2) == [b"before the crash", b"after it"]
    with psycopg.connect(first.database_url) as database:
        assert database.execute("SELECT answer FROM kept").fetchall() == [(42,)]
        encoding = database.execute("SHOW server_encoding").fetchone()
        assert encoding == ("UTF8",)

    other.down()
    assert states(stack) == {"kafka": "stopped", "postgres": "stopped"}
    assert processes_of(home) == []
    assert read(stack_file(home)) is None


def test_nobody_gets_into_the_database_without_the_password(home: Path) -> None:
    """Its superuser may run programs: any other user of the machine could act as ours."""
    stack = LocalStack(home)
    url = stack.start_postgres()
    user, rest = url.split("@")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"{user.rsplit(':', 1)[0]}:wrong@{rest}")
    stack.down()


def test_a_taken_port_is_named_and_nothing_else_changes(home: Path) -> None:
    """A silent move to another port would leave services writing to somebody else's server."""
    stack = LocalStack(home)
    before = (home / "layout.json").read_text()
    for server, port in (
        (stack.postgres, stack.postgres.port),
        (stack.brokers[0], stack.brokers[0].node.port),
    ):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(StackError, match=f"port {port}, which is kept for {server.name}, is in use"):
                server.start()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", stack.brokers[0].node.controller_port))
        other.listen()
        with pytest.raises(StackError, match="is in use"):
            stack.up()
    assert processes_of(home) == [], "a failed start leaves nothing running"
    assert (home / "layout.json").read_text() == before


def test_two_starts_at_once_make_one_server(home: Path) -> None:
    """Two servers on one data folder would destroy it."""
    urls: list[str] = []
    starts = [
        threading.Thread(target=lambda: urls.append(LocalStack(home).start_postgres())) for _ in range(3)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join(120)
    assert len(urls) == 3
    assert len(set(urls)) == 1
    assert len(processes_of(home)) == 1
    LocalStack(home).down()


def test_another_number_of_brokers_is_refused_for_existing_data(home: Path) -> None:
    with pytest.raises(StackError, match=r"holds a Kafka of 1 broker\(s\), not 3"):
        LocalStack(home, brokers=3).up()


_AS_NOBODY = """
import os, pathlib, sys
from tidewire.stack import LocalStack
assert os.geteuid() != 0
stack = LocalStack(pathlib.Path(sys.argv[1]))
stack.up(print)
print([server.state for server in stack.status()])
stack.wipe()
print("gone")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as another user")
def test_an_ordinary_user_needs_nothing_of_root() -> None:
    """Where all tests run as root, a stack that works for root alone would not be noticed."""
    user_home = Path(tempfile.mkdtemp(prefix="tidewire-user-"))
    nobody = pwd.getpwnam("nobody")
    jars.classpath()
    shutil.copytree(jars.cache_folder(), user_home / "cache" / "tidewire" / jars.cache_folder().name)
    for path in (user_home, *user_home.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={
                "PATH": os.defpath,
                "HOME": str(user_home),
                "XDG_CACHE_HOME": str(user_home / "cache"),
                "PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("purelib"))),
            },
            cwd=user_home,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    def runs_tidewire(python: str) -> bool:
        try:
            return as_nobody(python, "-c", "import tidewire.stack").returncode == 0
        except OSError:
            return False

    try:
        pythons = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
        python = next(filter(runs_tidewire, pythons), None)
        if python is None:
            pytest.skip("Python or this checkout is in a folder that other users cannot enter")
        done = as_nobody(python, "-c", _AS_NOBODY, str(user_home / "home"))
        assert done.returncode == 0, done.stderr
        assert "['running', 'running']" in done.stdout
        assert done.stdout.endswith("gone\n")
        assert processes_of(user_home) == []
    finally:
        shutil.rmtree(user_home)


def test_three_brokers_lose_one_and_go_on(tmp_path: Path) -> None:
    """With acks=all and two of three in sync, the loss of a broker loses nothing and stops nobody."""
    stack = LocalStack(tmp_path, brokers=3)
    try:
        two = stack.brokers[:2]
        for broker in two:
            broker.launch()
        for broker in two:
            broker.wait_ready()
        assert not creates(two[0].address, copies=3)
        with ThreadPoolExecutor(1) as pool:  # a service that starts while a broker does waits for its topics
            created = pool.submit(asyncio.run, create_as_services_do(two[0].address, copies=3))
            bootstrap = stack.start_kafka()
            created.result(60)
        topic = create_topic(bootstrap, copies=3)
        produce(bootstrap, topic, b"one")
        leader = (
            AdminClient({"bootstrap.servers": bootstrap})
            .list_topics(topic)
            .topics[topic]
            .partitions[0]
            .leader
        )
        lost = next(broker for broker in stack.brokers if broker.node.id == leader)
        lost.kill()
        assert states(stack)[lost.name] == "killed"
        produce(bootstrap, topic, b"two")
        lost.start()
        assert consume(lost.address, topic, 2) == [b"one", b"two"]
        client = AdminClient({"bootstrap.servers": lost.address})
        eventually(lambda: len(client.list_topics(topic).topics[topic].partitions[0].isrs) == 3)
    finally:
        stack.wipe()
    assert processes_of(tmp_path) == []
