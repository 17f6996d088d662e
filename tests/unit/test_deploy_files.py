"""What is deployed: a service missing in the composition runs nowhere, an open port is open to everybody."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.commands.runs import line

ROOT = Path(__file__).parents[2]
SERVERS = ("kafka", "postgres")


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


def test_it_has_the_topology_of_a_run_on_this_machine(composed: dict[str, Any]) -> None:
    """`tidewire up` and the containers are the same pipeline; a forgotten sink would lose its rows."""
    here = {service.name: list(service.command[-3:-1]) for service in line.pipeline({})}
    there = {
        name: service["command"]
        for name, service in composed["services"].items()
        if name not in (*SERVERS, "topics") and "profiles" not in service
    }
    assert there == here
    optional = {name for name, service in composed["services"].items() if "profiles" in service}
    assert optional == {"rss", "webhooks"}


def test_services_can_write_nothing_and_gain_nothing(composed: dict[str, Any]) -> None:
    """Whoever breaks into one service must not own the machine."""
    for name, service in composed["services"].items():
        if name in SERVERS:
            continue
        assert service["read_only"] is True, name
        assert service["user"] == "10001:10001", name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_nothing_is_open_to_the_network(composed: dict[str, Any]) -> None:
    """The broker and the database of the composition have no real passwords."""
    ports = [port for service in composed["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_only_what_talks_to_alpaca_gets_keys(composed: dict[str, Any]) -> None:
    """The gateway faces clients: it must not hold what could place an order."""
    holders = {
        name for name, s in composed["services"].items() if "APCA_API_KEY_ID" in s.get("environment", ())
    }
    assert holders == {"producer", "accounts", "backfiller", "auditor", "subscriber", "executor"}


def test_docker_compose_reads_it() -> None:
    """A composition that does not even parse helps nobody."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed here")
    done = subprocess.run([program, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_passes_its_linter() -> None:
    """hadolint knows what makes an image large, unpinned or unsafe."""
    program = ROOT / ".venv" / "bin" / "hadolint"
    if not program.exists():
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run(
        [program, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "USER 10001" in (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
