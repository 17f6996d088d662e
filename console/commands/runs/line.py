"""The line of services from Alpaca (or its simulator) to PostgreSQL: what to run, and with what settings."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from console.commands.runs.steps import Steps
from console.screen.completeness_side import CompletenessSide
from console.screen.exits_side import ExitsSide
from console.screen.gateway_side import GatewaySide
from console.screen.kafka_side import KafkaSide
from console.screen.news_side import NewsSide
from console.screen.observe import Observer
from console.screen.postgres_side import PostgresSide
from schemas import catalogue
from schemas.catalogue import Catalogue
from schemas.codec import load_codec
from tidewire.config import Settings
from tidewire.stack import LocalStack, fill_in
from tidewire.supervision import run_files
from tidewire.supervision.child import Service
from tidewire.supervision.supervisor import Server, Supervisor

CHANNEL_TOPICS = {
    "trades": catalogue.STOCK_TRADES,
    "quotes": catalogue.STOCK_QUOTES,
    "bars": catalogue.STOCK_BARS,
    "option trades": catalogue.OPTION_TRADES,
    "option quotes": catalogue.OPTION_QUOTES,
    "crypto trades": catalogue.CRYPTO_TRADES,
    "crypto quotes": catalogue.CRYPTO_QUOTES,
    "crypto bars": catalogue.CRYPTO_BARS,
    "news": catalogue.NEWS,
    "order events": catalogue.TRADE_UPDATES,
    "statuses": catalogue.STOCK_STATUSES,
    "bands": catalogue.STOCK_LULDS,
    "imbalances": catalogue.STOCK_IMBALANCES,
    "corrections": catalogue.STOCK_CORRECTIONS,
    "order books": catalogue.CRYPTO_ORDERBOOKS,
}
_OTHER_TABLES = {
    "statuses": "stock_statuses",
    "bands": "stock_lulds",
    "imbalances": "stock_imbalances",
    "corrections": "stock_corrections",
    "order books": "crypto_orderbooks",
}
CHANNEL_TABLES = {
    channel: _OTHER_TABLES.get(channel, channel.replace(" ", "_")) for channel in CHANNEL_TOPICS
}
GROUPS = {
    "tidewire-processor": ("trades", "quotes", "news"),
    "tidewire-portfolio": ("order events",),
}
"""Which consumer group folds which channels."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that a run uses. `watched` are the local stack's; `owned` of them this run stops."""

    settings: Settings
    watched: tuple[Server, ...] = ()
    owned: frozenset[str] = frozenset()
    local: bool = False
    """Kafka and PostgreSQL are both the local stack's, so nobody else's data can be in them."""
    kill_kafka: Callable[[], object] | None = None
    """Ends the first broker as a crash would (blocking); None where Kafka is not owned by this run."""


@dataclass(slots=True)
class Started:
    """What this run has started of the local stack, to be stopped when it ends, however it ends."""

    stack: LocalStack | None = None
    servers: list[Server] = field(default_factory=list)
    all_of_it: bool = False

    def stop(self) -> None:
        """Stop it; does nothing for what is stopped already."""
        if self.all_of_it and self.stack is not None:
            self.stack.down()
        for server in reversed(self.servers):
            server.stop()


def start_servers(settings: Settings, steps: Steps, started: Started) -> Servers:
    """Start what the environment does not name; servers that already run are used and left running.

    A run that was killed has left its servers: they are this run's now.

    Raises:
        StackError: a server does not start.
    """
    stack = LocalStack(settings.tidewire_home)
    local = {"kafka": settings.kafka_bootstrap_servers is None, "postgres": settings.database_url is None}
    needed: list[Server] = [*(stack.brokers if local["kafka"] else ())]
    needed += [stack.postgres] if local["postgres"] else []
    inherited = run_files.read_services(settings.tidewire_home).get("owned_servers", ())
    started.stack = stack
    started.servers = [s for s in needed if s.name in inherited or not s.alive()]
    started.all_of_it = len(started.servers) == len(stack.servers)
    owned = frozenset(server.name for server in started.servers)
    filled = _start(settings, stack, local, steps) if needed else settings
    kafka = next((broker for broker in stack.brokers if broker.name in owned), None)
    kill = None if kafka is None else kafka.kill
    return Servers(filled, tuple(needed), owned, all(local.values()), kill)


def _start(settings: Settings, stack: LocalStack, local: Mapping[str, bool], steps: Steps) -> Settings:
    if all(local.values()):
        with steps.step("Kafka and PostgreSQL") as progress:
            stack.up(progress)
        return fill_in(settings)
    if local["kafka"]:
        with steps.step("Kafka"):
            return settings.model_copy(update={"kafka_bootstrap_servers": stack.start_kafka()})
    with steps.step("PostgreSQL"):
        return settings.model_copy(update={"database_url": SecretStr(stack.start_postgres())})


def environment(settings: Settings, **changes: str) -> dict[str, str]:
    """The environment of the services: this process's, with what was decided since it started."""
    assert settings.kafka_bootstrap_servers is not None
    assert settings.database_url is not None
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_SECURITY_PROTOCOL": settings.kafka_security_protocol,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "TIDEWIRE_HOME": str(settings.tidewire_home),
        "TIDEWIRE_FEED": settings.tidewire_feed,
        "TIDEWIRE_SYMBOLS": ",".join(settings.tidewire_symbols),
        "PYTHONUNBUFFERED": "1",
        "POLARS_MAX_THREADS": os.environ.get("POLARS_MAX_THREADS", "1"),
        **changes,
    }


_SHOWS_PRICES = ("producer", "processor", "sink", "gateway")
"""The services that bring data to people; those that only mend and keep come after them."""

_IN_A_HURRY = ("producer", "accounts", "portfolio", "exits", "executor", "processor", "gateway")
"""The services between a stream and people; on a busy machine the others, which keep and mend, give way."""
_GIVES_WAY = 5


def service(
    role: str, env: Mapping[str, str], *arguments: str, number: int = 1, after: tuple[str, ...] = ()
) -> Service:
    """One service as a child of the supervisor, started after others are ready."""
    name = role if number == 1 else f"{role}-{number}"
    niceness = 0 if role in _IN_A_HURRY else _GIVES_WAY
    return Service(name, (*_command(role), *arguments), env, after=after, niceness=niceness)


def pipeline(
    env: Mapping[str, str], workers: int = 1, *, accounts: bool = True, others: Sequence[str] = ()
) -> list[Service]:
    """Producers, processors and sinks, in the order in which they start and stop.

    `accounts`: there are brokerage accounts to follow; without any, market data alone is served. `others`:
    services of `asked_for`.
    """
    processors = [service("processor", env, number=n) for n in range(1, workers + 1)]
    account_side = [service("accounts", env), service("portfolio", env)] if accounts else []
    later = (*_SHOWS_PRICES, *(each.name for each in account_side))
    holder = [service("subscriber", env, after=later)] if accounts else []
    exits = [service("exits", env, after=later)] if accounts else []  # nothing to guard before the portfolio
    orders = [service("executor", env, after=("portfolio",))] if accounts else []
    return [
        service("producer", env),
        *account_side,
        *processors,
        service("sink", env),
        service("gateway", env),
        *exits,
        *orders,
        service("backfiller", env, after=later),
        service("auditor", env, after=later),
        *holder,
        *(service(role, env, after=later) for role in others),
    ]


def asked_for(settings: Settings) -> list[str]:
    """The services that run only where the settings ask for them."""
    found = ["rss"] if settings.tidewire_rss_urls else []
    return found + (["webhooks"] if settings.tidewire_webhook_secret is not None else [])


def simulator(env: Mapping[str, str], port: int, *arguments: str) -> Service:
    """The simulated market; started again it goes on with its tape where the ledger ends."""
    command = (*_command("simulator"), "--port", str(port), *arguments)
    return Service("simulator", (*command, "--fresh"), env, again=(*command, "--resume"))


def _command(role: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "console.cli", "service", role, "--lifeline")


def prepare(settings: Settings, steps: Steps) -> None:
    """Topics and tables as the catalogue and the migrations want them.

    Raises:
        SchemaError: they exist and differ in a way that cannot be changed.
        UnreachableError: Kafka or PostgreSQL does not answer.
    """
    from schemas import cluster
    from sinks.postgres import migrate

    with steps.step("topics"):
        asyncio.run(cluster.apply(settings))
    with steps.step("tables"):
        assert settings.database_url is not None
        migrate.apply(settings.database_url.get_secret_value())


def observer(
    settings: Settings, supervisor: Supervisor, simulator_url: str | None, client: GatewaySide | None
) -> Observer:
    """What looks at the whole line; `client` is signed in at the gateway."""
    names = Catalogue(settings.tidewire_topic_prefix, 1)
    topics = {channel: names.name(topic) for channel, topic in CHANNEL_TOPICS.items()}
    groups = {names.name(group): channels for group, channels in GROUPS.items()}
    decode = load_codec(settings).decode
    kafka = KafkaSide(settings, topics, names.name(catalogue.STOCK_FEATURES), groups, decode)
    news = NewsSide(settings, names.name(catalogue.NEWS), names.name(catalogue.NEWS_SENTIMENT), decode)
    followed = [names.name(topic) for topic in (catalogue.CONNECTIONS, catalogue.GAPS, catalogue.AUDITS)]
    completeness = CompletenessSide(settings, followed, decode)
    postgres = PostgresSide(settings, topics)
    told = (catalogue.EXIT_WATCH, catalogue.EXIT_EVENTS, catalogue.EXIT_TRIGGERS, catalogue.ORDER_RESULTS)
    exits = ExitsSide(settings, [names.name(topic) for topic in told], decode, _killed(settings))
    return Observer(supervisor.rows, kafka, postgres, news, completeness, exits, simulator_url, client)


def _killed(settings: Settings) -> Callable[[], str | None]:
    """Why the kill switch's file stops every account; None: it does not."""
    from sinks.executor import kill_file

    return lambda: kill_file.why_on(settings.tidewire_home, kill_file.ALL)
