"""`tidewire init`: an annotated .env.example with every setting, made from the settings themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidewire.config import Settings
from tidewire.errors import ConfigError

_HEAD = """\
# tidewire's settings: copy this file to .env and change what you need. The environment wins over .env.
# A line that is commented out shows the default. Keep .env out of version control: it holds keys.
"""

_SECTIONS = {
    "apca_": "Alpaca. Keys: https://app.alpaca.markets (paper account: free). `tidewire demo` needs none.",
    "kafka_bootstrap": "Kafka. Unset: a local Apache Kafka is started.",
    "database_url": "PostgreSQL. Unset: a local server is started.",
    "tidewire_sentiment": "News.",
    "tidewire_gateway": "The gateway for clients.",
    "tidewire_home": "This machine.",
}

_EXPLAINED = {
    "kafka_security_protocol": "how to speak to the brokers",
    "kafka_sasl_mechanism": "with KAFKA_SECURITY_PROTOCOL=SASL_*",
    "kafka_sasl_username": "with KAFKA_SECURITY_PROTOCOL=SASL_*",
    "kafka_sasl_password": "with KAFKA_SECURITY_PROTOCOL=SASL_*",
    "kafka_ssl_cafile": "certificate authority of the brokers, when the system does not know it",
    "kafka_ssl_certfile": "client certificate, together with KAFKA_SSL_KEYFILE",
    "kafka_ssl_keyfile": "client key, together with KAFKA_SSL_CERTFILE",
    "tidewire_log": "logs for people or for machines",
    "tidewire_log_level": "how much is logged",
}
"""Settings whose field carries no description."""


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that differs.")] = False,
) -> None:
    """Write an annotated .env.example with every setting."""
    target = folder / ".env.example"
    text = example()
    if target.exists() and target.read_text("utf-8") != text and not force:
        raise ConfigError([f"{target} exists and differs; --force overwrites it"])
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"cannot write {target}: {error.strerror}"]) from error
    print(f"wrote {target}: copy it to .env and set what you need")


def example() -> str:
    """The text of .env.example."""
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        for prefix, title in _SECTIONS.items():
            if name.startswith(prefix) and title not in "".join(lines):
                lines.append(f"\n# ---- {title}\n")
        lines.append(_entry(name, field))
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"


def _entry(name: str, field: FieldInfo) -> str:
    what = field.description or _EXPLAINED[name]
    choices = _choices(field.annotation)
    if choices and not all(choice in what for choice in choices):
        what += f" ({' | '.join(choices)})"
    return f"\n# {what}\n#{name.upper()}={_default(field)}"


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return ()


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is None or default is PydanticUndefined:
        return ""
    return ",".join(default) if isinstance(default, tuple) else str(default)
