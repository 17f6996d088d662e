"""The `tidewire` command: its verbs, and how an error ends.

The verbs' modules are imported when they are used, so that `tidewire --help` answers at once.
"""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from tidewire import __version__
from tidewire.errors import TidewireError

EXIT_CRASHED = 70
"""sysexits.h's EX_SOFTWARE: a mistake in tidewire itself."""

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells say it."""

_EXAMPLES = "\n\n".join(
    (
        "Examples:",
        "  tidewire demo                              a synthetic market, live",
        "  tidewire demo --ticks ticks/ --rate max    recorded ticks, then the report",
        "  tidewire up --feed test                    Alpaca's test stream (needs keys)",
        "  tidewire tail features.stocks              records of a topic, decoded",
        "  tidewire doctor                            what is wrong, and what to do",
    )
)


class _Verb(NamedTuple):
    """Where a verb lives (`module:attribute`) and its line in the help."""

    where: str
    summary: str


_VERBS = {
    "init": _Verb("console.commands.init:init", "Write an annotated .env.example with every setting."),
    "doctor": _Verb("console.commands.doctor:doctor", "Check keys, ports, disk, memory, servers, versions."),
    "stack": _Verb("console.commands.stack:app", "Start, stop or show the local Kafka and PostgreSQL."),
    "topics": _Verb("console.commands.topics:app", "List, apply or check the topic catalogue."),
    "up": _Verb("console.commands.up:up", "Run every service against Alpaca, supervised."),
    "demo": _Verb(
        "console.commands.demo:demo", "Run the whole line on a simulated market or recorded ticks."
    ),
    "watch": _Verb("console.commands.watch:app", "Follow a portfolio or a tape through the gateway."),
    "accounts": _Verb("console.commands.accounts:app", "List the accounts and check their keys."),
    "kill": _Verb("console.commands.kill:app", "Stop all orders, here and at the broker: on, off, status."),
    "users": _Verb("console.commands.users:app", "Add, list and remove the gateway's users."),
    "exits": _Verb("console.commands.exits:app", "Set, list and remove exit rules; explain what fired."),
    "verify": _Verb("console.commands.verify:verify", "Compare what was sent, logged, folded and stored."),
    "backfill": _Verb("console.commands.backfill:backfill", "Fetch an interval over REST, and watch it."),
    "reconcile": _Verb("console.commands.reconcile:reconcile", "Compare every account with its broker, now."),
    "replay": _Verb("console.commands.replay:app", "Fold the log anew: features, exits; check both."),
    "gaps": _Verb("console.commands.gaps:gaps", "List gaps, and what is known of every minute."),
    "tail": _Verb("console.commands.tail:tail", "Show the records of a topic, decoded."),
    "service": _Verb("console.commands.service:app", "Run one service in this process."),
    "version": _Verb("console.cli:version", "Show the version."),
}


class _LazyGroup(TyperGroup):
    """A group whose verbs are imported when they are called; the help shows their summaries instead."""

    _only_names = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of their first use."""
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command; None when there is no such verb."""
        verb = _VERBS.get(cmd_name)
        if verb is None:
            return None
        return _summary_only(cmd_name, verb) if self._only_names else _load(cmd_name, verb)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The group's help, without importing any verb."""
        self._only_names = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._only_names = False

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, with suggestions from the lazy verbs."""
        self.commands = {name: _summary_only(name, verb) for name, verb in _VERBS.items()}  # their names only
        return super().resolve_command(ctx, args)


def _summary_only(name: str, verb: _Verb) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name, help=verb.summary)(lambda: None)
    return get_command(app)


def _load(name: str, verb: _Verb) -> Any:
    module, _, attribute = verb.where.partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        found.command(name)(function)
    command = get_command(found)
    command.name = name
    return command


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version() -> None:
    """Show the version."""
    print(f"tidewire {__version__}")


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback when tidewire itself fails.")
    ] = False,
) -> None:
    """Alpaca's streams to Kafka, Faust, PostgreSQL and clients, with a report that shows it is complete."""
    context.obj = {"debug": debug}


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Every error has become one message on stderr."""
    # Libraries' own warnings belong into a service's log; beside our one message they only confuse.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app(args=arguments, prog_name="tidewire")
    except SystemExit as exit_:
        return _as_code(exit_.code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except TidewireError as error:
        print(f"tidewire: {_one_message(error)}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        return _crashed(error, debug="--debug" in arguments)
    return 0


def main() -> NoReturn:
    """The entry point of the `tidewire` command."""
    sys.exit(run(sys.argv[1:]))


def _as_code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def _one_message(error: TidewireError) -> str:
    text = str(error)
    return f"\n{text}" if text.startswith("  - ") else text


def _crashed(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
        return EXIT_CRASHED
    log = _write_crash(error)
    where = (
        f"the traceback is in {log}" if log else "run it again with `tidewire --debug ...` for the traceback"
    )
    print(
        f"tidewire: a mistake in tidewire itself: {type(error).__name__}: {error}; {where}", file=sys.stderr
    )
    return EXIT_CRASHED


def _write_crash(error: Exception) -> Path | None:
    from tidewire.config import load

    try:
        folder = load().tidewire_home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "crash.log").open("a", encoding="utf-8") as file:
            print(f"--- {datetime.now(UTC).isoformat()} tidewire {__version__}", file=file)
            traceback.print_exception(error, file=file)
    except (TidewireError, OSError):
        return None
    return folder / "crash.log"


if __name__ == "__main__":
    main()
