"""`tidewire demo`: the whole line on this machine, on a synthetic market or on recorded ticks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from console.commands import rate as rates
from console.commands.runs import demo_accounts, demo_run, disasters, line, session
from console.commands.runs.demo_run import Finished, Plan
from console.commands.runs.empty import empty
from console.commands.runs.interrupts import Interrupted
from console.commands.runs.session import Run, Session
from simulator.opra.listing import listing
from simulator.options import key_pair
from tidewire import config
from tidewire.clock import now_ns
from tidewire.config import Settings
from tidewire.errors import ConfigError
from tidewire.supervision.child import Service, free_port

SYNTHETIC_SYMBOLS = "AAPL,AMZN,GOOGL,JPM,META,MSFT,NVDA,SPY,TSLA,XOM"
SYNTHETIC_PAIRS = "BTC/USD,ETH/USD"
OPTION_STOCKS = 2


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
    accounts: Annotated[
        int, typer.Option(min=0, max=500, help="Simulated brokerage accounts; 0: market data alone.")
    ] = 2,
    strategy: Annotated[
        bool | None,
        typer.Option(
            "--strategy/--no-strategy",
            help="Trade the first account [default: unless --ticks]; no: no exits either.",
        ),
    ] = None,
    no_screen: Annotated[
        bool, typer.Option("--no-screen", help="Plain lines instead of the screen.")
    ] = False,
    disaster: Annotated[
        str,
        typer.Option(
            help="By the second: cut, mute, skip, trading, kafka, kill (orders).", metavar="NAME@SECONDS,..."
        ),
    ] = "",
) -> None:
    """Run the whole line on a simulated market or on recorded ticks.

    Starts Kafka and PostgreSQL (unless the environment names them), a local Alpaca and every service, shows
    them live and ends with the completeness report: exit code 0 only if it is complete. Ctrl-C stops all.
    On a terminal single keys break something (the screen lists them), and what was lost is found again.

    Example: tidewire demo --ticks ticks/ --rate max --json
    """
    played = _ticks([*(ticks or ()), *(paths or ())], given=bool(ticks), duration=duration)
    if strategy and not accounts:
        raise ConfigError(["--strategy trades the first account, and --accounts 0 leaves none"])
    faults = tuple(disasters.parse(disaster))
    plan = Plan(played, rates.parse(rate), seed, duration, accounts, strategy, faults)
    settings = _settings(played, symbols)
    with session.opened(settings, "demo", as_json=as_json, screen=not no_screen) as current:
        finished = _run(current, plan, fresh)
    raise typer.Exit(_show(finished, as_json))


def _run(current: Session, plan: Plan, fresh: bool) -> Finished:
    servers = current.start_servers()
    empty(servers, fresh, current.steps)
    line.prepare(servers.settings, current.steps)
    url, gateway = (f"http://127.0.0.1:{port}" for port in (free_port(), _gateway_port(servers.settings)))
    services = _services(servers.settings, plan, url, gateway)
    with current.steps.step("accounts and users"):
        sign_in = demo_accounts.sign_in(servers.settings, gateway, plan.accounts)
    current.steps.note(f"portfolio at {gateway}; sign in once: {sign_in.link}")

    async def play(run: Run) -> Finished | None:
        run.hint = f"Ctrl-C stops everything   {sign_in.link}"
        return await demo_run.play(run, plan, servers.settings, url, servers.kill_kafka)

    finished = session.supervised(current, servers, services, url, play, sign_in.client)
    if finished is None:
        raise Interrupted
    return finished


def _gateway_port(settings: Settings) -> int:
    return settings.tidewire_gateway_port or free_port()


def _services(settings: Settings, plan: Plan, url: str, gateway: str) -> list[Service]:
    key, secret = key_pair(1)
    exits = plan.strategy is not False  # whoever wants nobody to trade wants no exits to
    accounts_file = demo_accounts.write_accounts(settings.tidewire_home, plan.accounts, exits=exits)
    strategy = plan.strategy if plan.accounts else False
    env = line.environment(
        settings,
        APCA_API_KEY_ID=key,
        APCA_API_SECRET_KEY=secret,
        TIDEWIRE_STREAM_URL=url.replace("http:", "ws:"),
        TIDEWIRE_DATA_URL=url,
        TIDEWIRE_TRADING_URL=url,
        TIDEWIRE_ACCOUNTS_FILE=str(accounts_file),
        TIDEWIRE_CRYPTO_SYMBOLS="*" if plan.ticks else SYNTHETIC_PAIRS,
        TIDEWIRE_NEWS_SYMBOLS="*",
        TIDEWIRE_OPTION_SYMBOLS=",".join(_contracts(settings, plan)),
        TIDEWIRE_GATEWAY_HOST="127.0.0.1",
        TIDEWIRE_GATEWAY_PORT=gateway.rpartition(":")[2],
        ENABLE_REALTIME_PORTFOLIO="true",
        TIDEWIRE_MARKET_HOURS="exchange" if plan.ticks else "always",
    )
    arguments = ["--rate", str(plan.rate), "--seed", str(plan.seed)]
    arguments += ["--accounts", str(max(plan.accounts, 1))]  # its market data ask for keys too
    if strategy is not None:
        arguments.append("--strategy" if strategy else "--no-strategy")
    arguments += [word for path in plan.ticks for word in ("--ticks", str(path))]
    return [
        line.simulator(env, int(url.rpartition(":")[2]), *arguments),
        *line.pipeline(env, accounts=plan.accounts > 0),
    ]


def _contracts(settings: Settings, plan: Plan) -> list[str]:
    """Those of the settings, else calls at three strikes of two stocks; none beside recorded ticks."""
    if plan.ticks or settings.tidewire_option_symbols:
        return list(settings.tidewire_option_symbols)
    stocks = [symbol for symbol in settings.symbols if symbol.isalpha()][:OPTION_STOCKS]
    return listing(stocks, now_ns())[::2]


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
