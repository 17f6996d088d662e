"""Where the gateway is, and a session for a program that is run by its user."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from sinks.gateway import users
from tidewire.config import Settings
from tidewire.errors import ConfigError, TidewireError, UnreachableError
from tidewire.stack import fill_in
from tidewire.supervision.run_files import services_file

_TIMEOUT = 10.0


def gateway_url(settings: Settings) -> str:
    """The address of the gateway that this home's supervisor runs.

    Raises:
        ConfigError: none runs.
        UnreachableError: it does not answer.
    """
    try:
        services = json.loads(services_file(settings.tidewire_home).read_text("utf-8"))["services"]
        health = f"{services['gateway']['http']}/health"
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            [
                f"no gateway runs from {settings.tidewire_home}: start `tidewire demo` or `tidewire up`, "
                "set TIDEWIRE_HOME, or name its address with --url"
            ]
        ) from None
    try:
        return str(json.loads(_request(urllib.request.Request(health))[0])["url"])  # noqa: S310
    except (OSError, ValueError, KeyError) as error:
        raise UnreachableError(f"the gateway does not answer at {health}: {error}") from error


def with_password(url: str, user: str, password: str) -> str:
    """Sign in like a browser; returns the cookie as `name=value`.

    Raises:
        UnreachableError: the gateway does not answer.
        TidewireError: it refuses the password, or asks for patience.
    """
    body = json.dumps({"user": user, "password": password}).encode()
    request = urllib.request.Request(  # noqa: S310  (http or https, as the user named it)
        f"{url}/api/sign-in", body, {"Content-Type": "application/json"}
    )
    try:
        _, cookie = _request(request)
    except urllib.error.HTTPError as error:
        raise TidewireError(f"{url} refuses the sign-in of {user}: {_message(error)}") from None
    except OSError as error:
        raise UnreachableError(f"the gateway does not answer at {url}: {error}") from error
    return cookie.partition(";")[0]


def as_operator(settings: Settings, user: str) -> str:
    """A session by the right of who may write to the database; returns the cookie as `name=value`.

    Raises:
        ConfigError: there is no such user, or no database to ask.
        UnreachableError: PostgreSQL does not answer.
    """
    filled = fill_in(settings)
    assert filled.database_url is not None
    return users.mint_session(filled.database_url.get_secret_value(), user)


def _request(request: urllib.request.Request) -> tuple[bytes, str]:
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        return answer.read(), answer.headers.get("Set-Cookie", "")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, OSError):
        return f"{error.code} {error.reason}"
