"""Servers and settings for every test that asks for them.

Kafka and PostgreSQL come from the environment (KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL), else from Docker by
testcontainers when an engine answers, else from tidewire's own local stack in a temporary folder. They are
started when the first test asks, once for the whole run, and stopped at its end, Ctrl-C included. A run that
asks for none (the unit tests) starts none.

Run by several processes (`-n 2`), one of which does the tests that run a whole line of services: two lines at
once are more than two cores carry. The servers are then started before the processes are, for all of them.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import psutil
import psycopg
import pytest
import structlog
from confluent_kafka.admin import AdminClient
from psycopg import conninfo, sql
from xdist.scheduler import LoadScopeScheduling

from tidewire import config
from tidewire.config import Settings
from tidewire.stack import LocalStack

_KAFKA_IMAGE = "confluentinc/cp-kafka:7.9.0"
_POSTGRES_IMAGE = "postgres:18-alpine"
_HOME_PREFIX = "tidewire-tests-"


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    # A busy machine is no reason to fail: what may take how long is for the benchmarks.
    hypothesis.settings.register_profile("tidewire", deadline=None)
    hypothesis.settings.load_profile("tidewire")
    # A developer's own keys, home or log settings must never steer a test.
    for name in list(os.environ):
        if name.startswith(("APCA_", "TIDEWIRE_")) and not name.startswith("TIDEWIRE_TEST_"):
            del os.environ[name]
    # A CI job that is cancelled sends SIGTERM: leave through the fixtures, so that no server stays behind.
    signal.signal(signal.SIGTERM, _interrupt)


_WHOLE_LINES = ("tests/e2e/", "tests/chaos/", "test_cli_demo.py", "test_stack_servers.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Tests of one file stay in one process, and so do all that run a whole line."""
    return _ByFile(config, log)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "line" if any(part in file for part in _WHOLE_LINES) else file


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the servers for all processes, if there are several and tests that may ask for them."""
    several = getattr(session.config.option, "numprocesses", None)
    only_unit = all("tests/unit" in Path(argument).as_posix() for argument in session.config.args)
    if several and not only_unit and not _docker_answers():
        _stop_leftovers()
        stack = LocalStack(_new_home())
        session.config.stash[_STACK] = stack
        os.environ.setdefault("KAFKA_BOOTSTRAP_SERVERS", stack.start_kafka())
        os.environ.setdefault("DATABASE_URL", stack.start_postgres())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop what was started for all."""
    if (stack := session.config.stash.get(_STACK, None)) is not None:
        stack.down()
        shutil.rmtree(stack.home, ignore_errors=True)


_STACK = pytest.StashKey[LocalStack]()


def _new_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix=f"{_HOME_PREFIX}{os.getpid()}-"))
    home.chmod(0o755)  # below a private folder PostgreSQL's own user would not reach its data
    return home


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# -- servers, one of each for the whole run ------------------------------------------------------------------


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """Addresses of a Kafka for this run."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
    elif _docker_answers():
        with _without_warnings():
            from testcontainers.community.kafka import KafkaContainer

            container = KafkaContainer(_KAFKA_IMAGE).with_kraft()
            container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
            container.start(timeout=120)
        try:
            yield container.get_bootstrap_server()
        finally:
            container.stop()
    else:
        stack: LocalStack = request.getfixturevalue("_own_stack")
        yield stack.start_kafka()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a PostgreSQL for this run; its user may create databases."""
    named = os.environ.get("DATABASE_URL")
    if named:
        yield named
    elif _docker_answers():
        with _without_warnings():
            from testcontainers.community.postgres import PostgresContainer

            container = PostgresContainer(_POSTGRES_IMAGE, driver=None)
            container.start()
        try:
            yield container.get_connection_url()
        finally:
            container.stop()
    else:
        stack: LocalStack = request.getfixturevalue("_own_stack")
        yield stack.start_postgres()


@pytest.fixture(scope="session")
def _own_stack() -> Iterator[LocalStack]:
    _stop_leftovers()
    stack = LocalStack(_new_home())
    try:
        yield stack
    finally:
        stack.down()
        shutil.rmtree(stack.home, ignore_errors=True)


def _stop_leftovers() -> None:
    """Stop the servers of an earlier run that was killed with -9 and could not do it itself."""
    for home in Path(tempfile.gettempdir()).glob(f"{_HOME_PREFIX}*"):
        pid = home.name.removeprefix(_HOME_PREFIX).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)) and os.access(home, os.W_OK):
            LocalStack(home).down()
            shutil.rmtree(home, ignore_errors=True)


@cache
def _docker_answers() -> bool:
    with _without_warnings():
        answers = _ping_docker()
        gc.collect()  # a refused client leaves its socket open; let it be found here, not in some test
    return answers


def _ping_docker() -> bool:
    try:
        import docker  # type: ignore[import-untyped]

        client = docker.from_env(timeout=3)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # whatever it is: there is no engine to use, and the local stack does as well
        return False


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- a clean process for each test ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A service or command that a test runs sets up the logs of this process, onto the stderr of that test. A
    later one would find that closed, and logging complains of it with the traceback in hand.
    """
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in before]
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


# -- a clean place on these servers for each test ------------------------------------------------------------


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database; dropped afterwards even when a connection is still open."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield _with_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _with_database(url: str, name: str) -> str:
    if "://" not in url:
        return conninfo.make_conninfo(url, dbname=name)
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@pytest.fixture
def topic_prefix(kafka_bootstrap: str) -> Iterator[str]:
    """A prefix nobody else uses; its topics and consumer groups are deleted afterwards."""
    prefix = f"t-{uuid.uuid4().hex[:10]}."
    yield prefix
    _delete_all(kafka_bootstrap, prefix)


def _delete_all(bootstrap: str, prefix: str) -> None:
    admin = AdminClient(_confluent(config.load(_env_file=None, kafka_bootstrap_servers=bootstrap)))
    topics = [t for t in admin.list_topics(timeout=20).topics if t.startswith(prefix)]
    groups = [g.group_id for g in admin.list_consumer_groups().result(20).valid]
    doomed = [g for g in groups if g.startswith(prefix)]
    futures = [
        *(admin.delete_topics(topics, operation_timeout=20).values() if topics else ()),
        *(admin.delete_consumer_groups(doomed).values() if doomed else ()),
    ]
    for future in futures:
        future.exception(30)  # a group with a member left is not worth a failed test: its prefix is unique


def _confluent(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "log_level": 4,
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "ssl.ca.location": settings.kafka_ssl_cafile,
        "ssl.certificate.location": settings.kafka_ssl_certfile,
        "ssl.key.location": settings.kafka_ssl_keyfile,
    }
    if settings.kafka_sasl_password is not None:
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_sasl_username
        options["sasl.password"] = settings.kafka_sasl_password.get_secret_value()
    return {name: str(value) for name, value in options.items() if value is not None}


@pytest.fixture
def settings(kafka_bootstrap: str, database_url: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings of a process that has a Kafka, an empty database, topics and a home of its own."""
    return config.load(
        _env_file=None,
        kafka_bootstrap_servers=kafka_bootstrap,
        database_url=database_url,
        tidewire_topic_prefix=topic_prefix,
        tidewire_home=tmp_path,
        tidewire_partitions=4,
    )
