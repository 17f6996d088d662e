"""The files by which a run is known from outside: who supervises this home, and where its services answer."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from tidewire.config import Settings
from tidewire.errors import StackError


class HomeLock:
    """One supervisor a home. The kernel frees the lock when its holder ends, however that happens."""

    def __init__(self, home: Path) -> None:
        self._path = home / "run" / "supervisor.lock"
        self._file: IO[str] | None = None

    def take(self, what: str) -> None:
        """Take the lock for a run of `what`.

        Raises:
            StackError: another run holds it, with its process id and how to go on.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another run"
            file.close()
            raise StackError(
                f"{holder} already uses {self._path.parent.parent}. "
                "Stop it first, or set TIDEWIRE_HOME to another folder."
            ) from error
        file.truncate(0)
        print(f"tidewire {what} (process {os.getpid()})", file=file, flush=True)
        self._file = file

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def services_file(home: Path) -> Path:
    """Where the running services' process ids and addresses stand."""
    return home / "run" / "services.json"


def write_services(
    home: Path,
    services: Mapping[str, Mapping[str, Any]],
    simulator: str | None,
    owned: Collection[str] = (),
) -> None:
    """Say which services run where; replaced as a whole, so a reader never sees half of it.

    `simulator` is the address of the simulated market, None for a run against Alpaca: it stays in the file
    after the run. `owned` are the servers that this run has started and will stop.
    """
    path = services_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "services": services,
        "simulator": {"status": f"{simulator}/sim/status"} if simulator else None,
        "owned_servers": sorted(owned),
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(body, indent=1), encoding="utf-8")
    draft.replace(path)


def read_services(home: Path) -> dict[str, Any]:
    """What `write_services` wrote; empty when there was never a run."""
    try:
        found: dict[str, Any] = json.loads(services_file(home).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def demo_accounts_file(home: Path) -> Path:
    """Where a demo of this home keeps its accounts."""
    return home / "demo" / "accounts.toml"


def of_the_demo(settings: Settings, *, running: bool = False) -> Settings:
    """The settings with the accounts and the broker of the demo that this home last ran, where the user names
    no others; unchanged when the last run was none. `running`: only of one whose services run now.
    """
    run = read_services(settings.tidewire_home)
    path, simulator = demo_accounts_file(settings.tidewire_home), run.get("simulator")
    if simulator is None or not path.is_file() or (running and not run.get("services")):
        return settings
    found: dict[str, object] = {"tidewire_accounts_file": path}
    found["tidewire_trading_url"] = str(simulator["status"]).removesuffix("/sim/status")
    return settings.model_copy(update={k: v for k, v in found.items() if k not in settings.model_fields_set})


def end_leftovers(home: Path, patience: float = 12.0) -> list[str]:
    """End services that a killed supervisor left; returns their names.

    They end by themselves (lifeline.py): this waits `patience` seconds for it, then kills.
    Call it only while holding the home's lock.
    """
    left = {
        process: name
        for name, service in read_services(home).get("services", {}).items()
        if (process := _still_ours(service.get("pid"), name)) is not None
    }
    _, stubborn = psutil.wait_procs(list(left), timeout=patience)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return list(left.values())


def _still_ours(pid: object, name: str) -> psutil.Process | None:
    if not isinstance(pid, int):
        return None
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
    except psutil.Error:
        return None
    return process if "service" in command and name.split("-")[0] in command else None
