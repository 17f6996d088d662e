"""The whole line by `tidewire demo`, servers and simulator included, on two cores."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import market, stillness
from benchmarks.process import environment, side
from console.commands.runs import line
from tidewire import config, stack
from tidewire.supervision import run_files

TIDEWIRE = Path(sys.executable).with_name("tidewire")
CORES = 2
MESSAGES = 600_000
LATENCY_RATE = 5_000
LATENCY_SECONDS = 20
_WARM_SECONDS = 5
_FIRST_SECONDS = 90
"""So long the services may take to start on a busy machine; the tape lasts that much longer."""
_START_SECONDS = 240.0
_END_SECONDS = 600.0


def throughput(repetitions: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """Messages a second from the socket to PostgreSQL, at most three runs; each must be complete."""
    found = []
    runs = min(3, repetitions)
    with home() as folder:
        count = market.write_ticks(folder / "ticks", MESSAGES)
        for n in range(runs):
            say(f"run {n + 1} of {runs}: {count:,} messages")
            body = _finish(_demo(folder, folder / "ticks", "max"))
            found.append(float(body["messages_per_second"]))
    return median(found), {"messages": float(count), "cores": float(CORES), "runs": float(runs)}


def latency(_: int, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """99th percentile, in ms, from a frame's receipt to its feature record in a consumer's hands."""
    with home() as folder:
        ticks = folder / "ticks"
        market.write_ticks(ticks, LATENCY_RATE * (LATENCY_SECONDS + _FIRST_SECONDS))
        say(f"{LATENCY_SECONDS} s at {LATENCY_RATE:,} messages a second")
        process = _demo(folder, ticks, str(LATENCY_RATE))
        try:
            wait_for_line(folder, process)
            answer = side("benchmarks.line:listen", {}, {"TIDEWIRE_HOME": str(folder)})
            _finish(process)
        finally:
            end(process)
    return float(answer.pop("p99")), {name: round(float(v), 1) for name, v in answer.items()}


@contextmanager
def home() -> Iterator[Path]:
    """A TIDEWIRE_HOME of its own; its servers are stopped and it is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
    folder.chmod(0o755)  # PostgreSQL's own user must reach its folder when this runs as root
    try:
        yield folder
    finally:
        env = environment({"TIDEWIRE_HOME": str(folder)})
        subprocess.run([str(TIDEWIRE), "stack", "down"], env=env, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _demo(folder: Path, ticks: Path, rate: str) -> subprocess.Popen[str]:
    return start(folder, "--ticks", str(ticks), "--rate", rate, "--json")


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`tidewire demo` with these options, on two cores."""
    return subprocess.Popen(
        [str(TIDEWIRE), "demo", "--fresh", *options],
        env=environment({"TIDEWIRE_HOME": str(folder)}),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=(folder / "demo.log").open("w"),
        text=True,
        preexec_fn=_on_two_cores,  # the whole line inherits it, servers included
    )


def _on_two_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        out, _ = process.communicate(timeout=_END_SECONDS)
    finally:
        end(process)
    if not out.strip():
        raise RuntimeError(f"tidewire demo ended with exit code {process.returncode} and no report")
    body: dict[str, Any] = json.loads(out)
    if not body["complete"]:
        raise RuntimeError(f"the run was not complete: {body['channels']} {body['problems']}")
    return body


def end(process: subprocess.Popen[str]) -> None:
    """Stop a demo, in order if it still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_line(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the simulator publishes and every service is ready: what still starts takes the processor."""
    names = {each.name for each in line.pipeline({})}
    deadline = time.monotonic() + _START_SECONDS
    while missing := _not_ready(folder, names):
        if process.poll() is not None:
            raise RuntimeError(f"tidewire demo ended early with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready within {_START_SECONDS:.0f} s: {', '.join(sorted(missing))}")
        time.sleep(0.5)


def _not_ready(folder: Path, names: set[str]) -> set[str]:
    run = run_files.read_services(folder)
    running: dict[str, dict[str, Any]] = run.get("services", {})
    missing = {name for name in names if not _answers(running.get(name, {}))}
    return missing or (set() if _elapsed(run) > 0 else {"market"})


def _answers(service: dict[str, Any]) -> bool:
    try:
        with urllib.request.urlopen(f"{service['http']}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, KeyError, ValueError):
        return False


def _elapsed(run: dict[str, Any]) -> float:
    try:
        with urllib.request.urlopen(run["simulator"]["status"], timeout=2) as answer:
            return float(json.load(answer).get("elapsed_seconds", 0.0))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def listen() -> dict[str, float]:
    """A consumer of features.stocks beside the running line: arrival less the newest receive time."""
    return asyncio.run(_listen())


@asynccontextmanager
async def features() -> AsyncIterator[Callable[[], Awaitable[tuple[int, list[dict[str, Any]]]]]]:
    """Gives the next records of features.stocks, decoded, and when they came (ns)."""
    from schemas.catalogue import STOCK_FEATURES
    from schemas.codec import load_codec
    from tidewire.kafka import client_arguments, fetch_only_when_read

    settings = stack.fill_in(config.load())
    codec = load_codec(settings)
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="latest",
        fetch_max_wait_ms=500,  # it is answered as soon as there is anything
    )
    await consumer.start()
    fetch_only_when_read(consumer)
    name = settings.tidewire_topic_prefix + STOCK_FEATURES
    places = [TopicPartition(name, p) for p in range(settings.tidewire_partitions or 4)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)

    async def following() -> tuple[int, list[dict[str, Any]]]:
        found, now = await consumer.getmany(timeout_ms=100), time.time_ns()
        return now, [codec.decode(record.value)[1] for records in found.values() for record in records]

    try:
        yield following
    finally:
        await consumer.stop()


async def _listen() -> dict[str, float]:
    waits: list[float] = []
    begin = end = 0.0  # set by the first record that comes
    give_up = time.monotonic() + _FIRST_SECONDS
    async with features() as following, stillness.watched() as still:
        while time.monotonic() < (end or give_up):
            (now, records), at = await following(), time.monotonic()
            if records and not end:
                begin, end = at + _WARM_SECONDS, at + _WARM_SECONDS + LATENCY_SECONDS
            if at >= begin:
                waits += [(now - record["received_ts"]) / 1e6 for record in records]
    return percentiles(waits) | still


def percentiles(waits: list[float]) -> dict[str, float]:
    """Of times in ms.

    Raises:
        RuntimeError: there are too few to say anything.
    """
    if len(waits) < 1000:
        raise RuntimeError(f"only {len(waits)} feature records came")
    waits = sorted(waits)
    return {
        "p50": waits[len(waits) // 2],
        "p99": waits[int(len(waits) * 0.99)],
        "max": waits[-1],
        "records": float(len(waits)),
    }
