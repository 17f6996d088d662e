"""Which of some running services say that they are ready."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 1.0


def ready(services: Mapping[str, str]) -> set[str]:
    """Those of the services (name -> address) that are ready now; blocking."""
    return {name for name, address in services.items() if _is_ready(address)}


def _is_ready(address: str) -> bool:
    connection = HTTPConnection(urlsplit(address).netloc, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):  # not there yet
        return False
    finally:
        connection.close()
