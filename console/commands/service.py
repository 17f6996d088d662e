"""`tidewire service ...`: one service in this process, until SIGINT or SIGTERM."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from console.commands import rate as rates
from tidewire import config
from tidewire.stack import fill_in
from tidewire.supervision import lifeline

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run one service in this process, until Ctrl-C or SIGTERM.",
)

Lifeline = Annotated[
    bool, typer.Option("--lifeline", hidden=True, help="End when standard input is closed (supervisor).")
]


@app.command()
def producer(lifeline_: Lifeline = False) -> None:
    """Alpaca's socket to Kafka."""
    _hold(lifeline_)
    from producers.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def accounts(lifeline_: Lifeline = False) -> None:
    """Order events and snapshots of every account to Kafka."""
    _hold(lifeline_)
    from producers.accounts.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def subscriber(lifeline_: Lifeline = False) -> None:
    """Open positions and movers to entries of control.subscriptions."""
    _hold(lifeline_)
    from producers.subscriber.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def rss(lifeline_: Lifeline = False) -> None:
    """RSS and Atom feeds of news to Kafka."""
    _hold(lifeline_)
    from producers.rss.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def webhooks(lifeline_: Lifeline = False) -> None:
    """Signed POSTs of other senders to Kafka."""
    _hold(lifeline_)
    from producers.webhooks.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def auditor(lifeline_: Lifeline = False) -> None:
    """The log's minutes beside Alpaca's history."""
    _hold(lifeline_)
    from producers.audit.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def backfiller(lifeline_: Lifeline = False) -> None:
    """Gaps of the streams to Kafka, over REST."""
    _hold(lifeline_)
    from producers.backfill.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def processor(lifeline_: Lifeline = False) -> None:
    """Kafka to features, in Faust."""
    _hold(lifeline_)
    from processors.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def portfolio(lifeline_: Lifeline = False) -> None:
    """Order events and marks to orders, positions and accounts, in Faust."""
    _hold(lifeline_)
    from processors.portfolio.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def exits(lifeline_: Lifeline = False) -> None:
    """Prices and exit rules to order intents, in Faust."""
    _hold(lifeline_)
    from processors.exits.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def executor(lifeline_: Lifeline = False) -> None:
    """Order intents to the broker, with the accounts' keys."""
    _hold(lifeline_)
    from sinks.executor.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def gateway(lifeline_: Lifeline = False) -> None:
    """Kafka to web and program clients."""
    _hold(lifeline_)
    from sinks.gateway.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def sink(lifeline_: Lifeline = False) -> None:
    """Kafka to PostgreSQL."""
    _hold(lifeline_)
    from sinks.postgres.app import main

    raise typer.Exit(main(fill_in(config.load())))


@app.command()
def simulator(
    paths: Annotated[list[Path] | None, typer.Argument(help="More tick files or folders.")] = None,
    ticks: Annotated[list[Path] | None, typer.Option(help="Tick files or folders to play.")] = None,
    rate: Annotated[str, typer.Option(help="Messages a second, or max, or real.")] = "real",
    seed: Annotated[int, typer.Option(help="Seed of the synthetic market.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any.")] = 0,
    symbols: Annotated[str, typer.Option(help="Symbols of the synthetic market, comma separated.")] = "",
    accounts: Annotated[
        int, typer.Option(min=1, max=500, help="Trading accounts, each with a key pair.")
    ] = 2,
    strategy: Annotated[
        bool | None,
        typer.Option("--strategy/--no-strategy", help="Trade account 1 [default: in a synthetic market]."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start the tape and its ledger anew, or go on with them.")
    ] = True,
    lifeline_: Lifeline = False,
) -> None:
    """A local Alpaca that plays recorded ticks or a synthetic market."""
    _hold(lifeline_)
    from simulator.app import SimulatorOptions, main

    settings = config.load(**({"tidewire_symbols": symbols} if symbols else {}))
    options = SimulatorOptions(
        ticks=(*(ticks or ()), *(paths or ())),
        rate=rates.parse(rate),
        seed=seed,
        port=port,
        symbols=settings.symbols,
        fresh=fresh,
        accounts=accounts,
        strategy=strategy,
    )
    raise typer.Exit(main(settings, options))


def _hold(asked: bool) -> None:
    gc.disable()  # while modules are loaded; the service itself turns it on (tidewire/service.py)
    if asked:
        lifeline.hold()
