"""The supervisor on real processes: nothing may stay dead while it runs, nor stay alive after it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tidewire.errors import StackError
from tidewire.supervision import run_files
from tidewire.supervision.child import Service
from tidewire.supervision.restart import Policy
from tidewire.supervision.supervisor import ServiceFailedError, Supervisor

QUICK = Policy(shortest=0.05, longest=0.2, healthy_after=5.0, tries_before_healthy=4)
FOREVER = "import signal, sys, threading; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
FOREVER += "print('ready', flush=True); threading.Event().wait()"
STUBBORN = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
STUBBORN += "print('ready', flush=True); threading.Event().wait()"


def _service(name: str, code: str, grace: float = 10.0, again: str | None = None) -> Service:
    command = (sys.executable, "-c", code)
    return Service(
        name,
        command,
        dict(os.environ),
        again=None if again is None else (sys.executable, "-c", again),
        grace_seconds=grace,
    )


async def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def _row(supervisor: Supervisor, name: str):  # type: ignore[no-untyped-def]
    return next(row for row in supervisor.rows() if row.name == name)


def _said(home: Path, name: str) -> str:
    log = home / "logs" / f"{name}.log"
    return log.read_text() if log.exists() else ""


async def test_a_killed_service_comes_back_with_its_other_command(tmp_path: Path) -> None:
    """A simulator that is killed must go on with its tape, not start it anew."""
    code = "import os; print('first', flush=True); " + FOREVER
    again = "print('again', flush=True); " + FOREVER
    supervisor = Supervisor(tmp_path, [_service("simulator", code, again=again)], policy=QUICK)
    supervisor.start()
    watch = asyncio.create_task(supervisor.watch())
    try:
        await _until(lambda: "first\nready" in _said(tmp_path, "simulator"))
        first = _row(supervisor, "simulator").pid
        os.kill(first, signal.SIGKILL)
        await _until(lambda: "again\nready" in _said(tmp_path, "simulator"))
        row = _row(supervisor, "simulator")
        assert row.restarts == 1
        assert row.pid != first
        written = run_files.read_services(tmp_path)["services"]["simulator"]
        assert written == {"pid": row.pid, "http": row.http}
    finally:
        await supervisor.stop()
    await watch
    assert not psutil.pid_exists(row.pid)
    assert run_files.read_services(tmp_path)["services"] == {}


async def test_services_stop_in_order_and_the_stubborn_one_is_killed_with_its_children(
    tmp_path: Path,
) -> None:
    """A sink stopped before the producer leaves records behind; an ignored SIGTERM must not hang Ctrl-C."""
    note = "import time, pathlib; p = pathlib.Path({path!r}); "
    ends = tmp_path / "ends"
    polite = note.format(path=str(ends)) + (
        "import signal, sys, threading\n"
        "def end(*_):\n"
        "    with p.open('a') as f: print({name!r}, file=f)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); threading.Event().wait()"
    )
    parent = (
        "import subprocess, sys\n"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('child', c.pid, flush=True); " + STUBBORN
    )
    services = [
        _service("producer", polite.replace("{name!r}", "'producer'")),
        _service("processor", parent, grace=0.3),
        _service("sink", polite.replace("{name!r}", "'sink'")),
    ]
    supervisor = Supervisor(tmp_path, services, policy=QUICK)
    supervisor.start()
    try:
        await _until(lambda: all("ready" in _said(tmp_path, s.name) for s in services))
        grandchild = int(_said(tmp_path, "processor").split()[1])
        pids = [row.pid for row in supervisor.rows()]
    finally:
        await supervisor.stop()
    assert ends.read_text().split() == ["producer", "sink"]
    await _until(lambda: not any(_lives(pid) for pid in [*pids, grandchild]))


READY = (
    "import http.server, os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "class Answer(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200 if os.path.exists({path!r}) else 503); self.end_headers()\n"
    "http.server.HTTPServer(('127.0.0.1', int(os.environ['TIDEWIRE_HTTP_PORT'])), Answer).serve_forever()"
)


async def test_a_service_that_comes_after_others_starts_when_they_are_ready(tmp_path: Path) -> None:
    """Prices must not wait for an auditor that starts at the same time; and it must start in the end."""
    ready = tmp_path / "ready"
    first = _service("producer", READY.replace("{path!r}", repr(str(ready))))
    code = "print('first', flush=True); " + FOREVER
    after = dataclasses.replace(_service("auditor", code), after=("producer",), after_seconds=600)
    late = dataclasses.replace(_service("subscriber", code), after=("nobody",), after_seconds=0.1)
    supervisor = Supervisor(tmp_path, [first, after, late], policy=QUICK)
    supervisor.start()
    watch = asyncio.create_task(supervisor.watch())
    try:
        await _until(lambda: "ready" in _said(tmp_path, "subscriber"))
        assert _row(supervisor, "auditor").phase == "queued"
        assert _said(tmp_path, "auditor") == ""
        ready.touch()
        await _until(lambda: "ready" in _said(tmp_path, "auditor"))
        row = _row(supervisor, "auditor")
        assert (row.phase, row.restarts) == ("running", 0)
    finally:
        await supervisor.stop()
    await watch
    assert not _lives(row.pid)


async def test_what_waits_for_others_never_starts_after_the_end(tmp_path: Path) -> None:
    """A service that starts while everything stops would be left running."""
    after = dataclasses.replace(_service("auditor", FOREVER), after=("producer",), after_seconds=600)
    supervisor = Supervisor(tmp_path, [_service("producer", FOREVER), after], policy=QUICK)
    supervisor.start()
    watch = asyncio.create_task(supervisor.watch())
    await _until(lambda: "ready" in _said(tmp_path, "producer"))
    await supervisor.stop()
    await watch
    assert _row(supervisor, "auditor").phase == "stopped"
    assert _said(tmp_path, "auditor") == ""


async def test_a_hurry_skips_the_grace(tmp_path: Path) -> None:
    """A second Ctrl-C must end the run at once."""
    supervisor = Supervisor(tmp_path, [_service("sink", STUBBORN, grace=600)], policy=QUICK)
    supervisor.start()
    await _until(lambda: "ready" in _said(tmp_path, "sink"))
    pid = _row(supervisor, "sink").pid
    hurry = asyncio.Event()
    stopping = asyncio.create_task(supervisor.stop(hurry))
    await asyncio.sleep(0)
    hurry.set()
    await asyncio.wait_for(stopping, 10)
    assert not _lives(pid)


async def test_a_final_exit_code_ends_the_run_with_the_services_words(tmp_path: Path) -> None:
    """A user with wrong keys must read why, with the exit code that scripts know."""
    code = "import sys; print('2026 noise'); print('tidewire producer: 402: wrong keys'); sys.exit(5)"
    supervisor = Supervisor(tmp_path, [_service("producer", code), _service("sink", FOREVER)], policy=QUICK)
    supervisor.start()
    try:
        with pytest.raises(ServiceFailedError, match="402: wrong keys") as caught:
            await asyncio.wait_for(supervisor.watch(), 20)
    finally:
        await supervisor.stop()
    assert caught.value.exit_code == 5
    assert "noise" not in str(caught.value)


async def test_a_service_that_never_works_ends_the_run(tmp_path: Path) -> None:
    """A broken installation would restart for ever behind a screen that only waits."""
    supervisor = Supervisor(tmp_path, [_service("sink", "raise ImportError('no psycopg')")], policy=QUICK)
    supervisor.start()
    try:
        with pytest.raises(ServiceFailedError, match="no psycopg"):
            await asyncio.wait_for(supervisor.watch(), 30)
    finally:
        await supervisor.stop()


class _Server:
    """A server as the local stack has them, here a plain process on a file."""

    name = "kafka"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        self.starts += 1
        if self.starts == 2:
            raise StackError("the port is still in use")
        self._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.mark.parametrize("owned", [True, False])
async def test_a_killed_server_is_started_again_until_it_stands(tmp_path: Path, owned: bool) -> None:
    """A crashed Kafka would otherwise stop the line until a person comes; and a server that somebody else
    started must not be stopped with our services."""
    server = _Server()
    server.start()
    supervisor = Supervisor(tmp_path, [], [server], ["kafka"] if owned else [], policy=QUICK)
    supervisor.start()
    watch = asyncio.create_task(supervisor.watch())
    try:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await _until(lambda: _row(supervisor, "kafka").restarts == 1)
        assert server.alive()
        assert server.starts == 3
    finally:
        await supervisor.stop()
        await watch
        left = server.alive()
        server.stop()
    assert left is not owned


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """After kill -9 of `tidewire demo` no service may go on writing, nor hold its ports and Kafka group."""
    child = "from tidewire.supervision import lifeline; lifeline.hold(grace_seconds=2); "
    parent = (
        "import asyncio, os, sys\nfrom pathlib import Path\n"
        "from tidewire.supervision.child import Service\n"
        "from tidewire.supervision.supervisor import Supervisor\n"
        "services = [Service('polite', (sys.executable, '-c', sys.argv[2]), dict(os.environ)),"
        " Service('stubborn', (sys.executable, '-c', sys.argv[3]), dict(os.environ))]\n"
        "supervisor = Supervisor(Path(sys.argv[1]), services)\n"
        "supervisor.start()\nasyncio.run(supervisor.watch())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path), child + FOREVER, child + STUBBORN]
    )
    try:
        _wait(lambda: all("ready" in _said(tmp_path, name) for name in ("polite", "stubborn")))
        pids = [s["pid"] for s in run_files.read_services(tmp_path)["services"].values()]
    finally:
        process.kill()
        process.wait()
    assert len(pids) == 2
    _wait(lambda: not any(_lives(pid) for pid in pids))


def test_leftovers_of_a_killed_run_are_ended_but_not_strangers(tmp_path: Path) -> None:
    """A recycled process id must not cost a user some other program."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "service", "sink"])
    services = {"producer": {"pid": stranger.pid, "http": ""}, "sink": {"pid": left.pid, "http": ""}}
    try:
        run_files.write_services(tmp_path, services, None)
        assert run_files.end_leftovers(tmp_path, patience=0.2) == ["sink"]
        _wait(lambda: not _lives(left.pid))
        assert stranger.poll() is None
    finally:
        for process in (stranger, left):
            process.kill()
            process.wait()


def test_two_runs_of_one_home_are_refused(tmp_path: Path) -> None:
    """Two supervisors on one database would fight over offsets, and both screens would be wrong."""
    lock = run_files.HomeLock(tmp_path)
    lock.take("demo")
    with pytest.raises(StackError, match=rf"tidewire demo \(process {os.getpid()}\) already uses"):
        run_files.HomeLock(tmp_path).take("up")
    lock.release()
    again = run_files.HomeLock(tmp_path)
    again.take("up")
    again.release()


def test_logs_of_earlier_runs_are_kept_and_bounded(tmp_path: Path) -> None:
    """The log of the run that crashed yesterday is what a user needs today."""
    for number in range(6):
        supervisor = Supervisor(tmp_path, [_service("sink", "pass")])
        (tmp_path / "logs" / "sink.log").write_text(f"run {number}")
        del supervisor
    logs = {p.name: p.read_text() for p in (tmp_path / "logs").iterdir()}
    assert logs == {
        "sink.log": "run 5", "sink.log.1": "run 4", "sink.log.2": "run 3", "sink.log.3": "run 2",
    }  # fmt: skip


def test_the_run_file_is_never_read_half_written(tmp_path: Path) -> None:
    """`tidewire verify` in another terminal reads it at any moment."""
    run_files.write_services(
        tmp_path, {"sink": {"pid": 1, "http": "http://127.0.0.1:1"}}, "http://127.0.0.1:2"
    )
    assert json.loads(run_files.services_file(tmp_path).read_text())["simulator"] == {
        "status": "http://127.0.0.1:2/sim/status"
    }
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["services.json"]


def _lives(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        threading.Event().wait(0.02)
