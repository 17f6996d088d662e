"""`tidewire demo`: the whole line on this machine, on a synthetic market or on recorded ticks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from console.commands import rate as rates
from console.commands.runs import demo_run, line, session
from console.commands.runs.demo_run import Finished, Plan
from console.commands.runs.empty import empty
from console.commands.runs.interrupts import Interrupted
from console.commands.runs.session import Session
from tidewire import config
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.supervision.child import Service, free_port

SYNTHETIC_SYMBOLS = "AAPL,AMZN,GOOGL,JPM,META,MSFT,NVDA,SPY,TSLA,XOM"
_KEY, _SECRET = "demo-key", "demo-secret"


def demo(
    paths: Annotated[list[Path] | None, typer.Argument(help="More paths for --ticks.", hidden=True)] = None,
    ticks: Annotated[
        list[Path] | None,
        typer.Option(help="Tick files, or folders of them, to play to their end.", metavar="PATH..."),
    ] = None,
    rate: Annotated[
        str,
        typer.Option(help="Messages a second, or max, or real: the tape's own pace.", metavar="N|max|real"),
    ] = "real",
    seed: Annotated[int, typer.Option(help="Seed of the synthetic market.")] = 1,
    symbols: Annotated[str, typer.Option(help="Symbols, comma separated.", metavar="A,B,...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Empty topics and tables that hold other data than a demo's.")
    ] = False,
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a synthetic market ends.")
    ] = None,
    no_screen: Annotated[
        bool, typer.Option("--no-screen", help="Plain lines instead of the screen.")
    ] = False,
) -> None:
    """Run the whole line on a simulated market or on recorded ticks.

    Starts Kafka and PostgreSQL (unless the environment names them), a local Alpaca and every service, shows
    them live and ends with the completeness report: exit code 0 only if it is complete. Ctrl-C stops all.

    Example: tidewire demo --ticks ticks/ --rate max --json
    """
    played = _ticks([*(ticks or ()), *(paths or ())], given=bool(ticks), duration=duration)
    plan = Plan(played, rates.parse(rate), seed, duration)
    settings = _settings(played, symbols)
    with session.opened(settings, "demo", as_json=as_json, screen=not no_screen) as current:
        finished = _run(current, plan, fresh)
    raise typer.Exit(_show(finished, as_json))


def _run(current: Session, plan: Plan, fresh: bool) -> Finished:
    servers = current.start_servers()
    empty(servers, fresh, current.steps)
    line.prepare(servers.settings, current.steps)
    url = f"http://127.0.0.1:{free_port()}"
    services = _services(servers.settings, plan, url)
    finished = session.supervised(
        current, servers, services, url, lambda run: demo_run.play(run, plan, servers.settings, url)
    )
    if finished is None:
        raise Interrupted
    return finished


def _services(settings: Settings, plan: Plan, url: str) -> list[Service]:
    env = line.environment(
        settings,
        APCA_API_KEY_ID=_KEY,
        APCA_API_SECRET_KEY=_SECRET,
        TIDEWIRE_STREAM_URL=url.replace("http:", "ws:"),
        TIDEWIRE_DATA_URL=url,
    )
    arguments = ["--rate", str(plan.rate), "--seed", str(plan.seed)]
    arguments += [word for path in plan.ticks for word in ("--ticks", str(path))]
    return [line.simulator(env, int(url.rpartition(":")[2]), *arguments), *line.pipeline(env)]


def _settings(ticks: tuple[Path, ...], symbols: str) -> Settings:
    """Recorded ticks are played whole unless symbols are named; a synthetic market has ten by default."""
    overrides: dict[str, object] = {"tidewire_feed": "iex"}
    if symbols:
        overrides["tidewire_symbols"] = symbols
    elif ticks:
        overrides["tidewire_symbols"] = "*"
    elif "tidewire_symbols" not in config.load().model_fields_set:
        overrides["tidewire_symbols"] = SYNTHETIC_SYMBOLS
    return config.load(**overrides)


def _ticks(paths: list[Path], given: bool, duration: float | None) -> tuple[Path, ...]:
    if paths and not given:
        raise typer.BadParameter(f"unexpected {paths[0]}: recorded input is named with --ticks PATH...")
    problems = [f"--ticks: no such file or folder: {path}" for path in paths if not path.exists()]
    if paths and duration is not None:
        problems.append("--duration is for a synthetic market; --ticks plays its input to the end")
    if problems:
        raise ConfigError(problems)
    return tuple(path.resolve() for path in paths)


def _show(finished: Finished, as_json: bool) -> int:
    if as_json:
        print(json.dumps(finished.as_json(), indent=2))
    else:
        from verify import screen

        console = Console()
        console.print(screen.render(finished.report))
        for text in finished.lines():
            console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
    return 0 if finished.report.complete else 1
