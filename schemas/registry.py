"""A small client of Confluent's schema-registry API (Confluent, Karapace, Apicurio, Redpanda).

Used once at the start of a process, so it is plain and blocking.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from schemas import lock
from tidewire.errors import SchemaError, UnreachableError

_JSON = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND = 404


class Registry:
    """One registry. `url` may carry user:password@; `timeout_s` is per request."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SchemaError(f"SCHEMA_REGISTRY_URL: not an http(s) URL: {_shown(url)}")
        self._base = urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
        )
        self._timeout_s = timeout_s
        self._headers = {"Accept": _JSON, "Content-Type": _JSON}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """The id of this schema under this subject; registered first where it is new.

        Raises:
            SchemaError: the registry refuses the schema (incompatible, not allowed).
            UnreachableError: the registry does not answer.
        """
        path = f"/subjects/{quote(subject, safe='')}"
        body = {"schemaType": "AVRO", "schema": json.dumps(schema, separators=(",", ":"))}
        found = self._ask("POST", path, body, subject)
        if found is None:
            found = self._ask("POST", f"{path}/versions", body, subject)
        if not isinstance(found, dict) or not isinstance(found.get("id"), int):
            raise SchemaError(f"the registry at {self._base} gave no id for {subject}: {found!r}")
        return int(found["id"])

    def versions(self, subject: str) -> list[tuple[int, dict[str, Any]]]:
        """Every version of a subject, oldest first, as (id, schema)."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        found = []
        for number in self._ask("GET", path, None, subject) or []:
            version = self._ask("GET", f"{path}/{number}", None, subject)
            if version is not None:
                found.append((int(version["id"]), json.loads(version["schema"])))
        return found

    def by_id(self, schema_id: int) -> dict[str, Any] | None:
        """The schema with this id, or None."""
        found = self._ask("GET", f"/schemas/ids/{schema_id}", None, f"id {schema_id}")
        return None if found is None else dict(json.loads(found["schema"]))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, about: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._base + path, data, self._headers, method=method)  # noqa: S310 - checked above
        try:
            with urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.loads(answer.read())
        except HTTPError as error:
            with error:
                if error.code == _NOT_FOUND:
                    return None
                reason = error.read().decode("utf-8", "replace")[:500]
            raise SchemaError(
                f"the registry at {self._base} refuses {about}: {error.code} {reason}"
            ) from error
        except (URLError, OSError, HTTPException) as error:
            raise UnreachableError(
                f"the schema registry does not answer at {self._base}: {error}. "
                "Check SCHEMA_REGISTRY_URL, or unset it to use the ids of lock.json."
            ) from error
        except ValueError as error:
            raise SchemaError(f"the registry at {self._base} answers no JSON: {error}") from error


def refuse_mixture(ids: Sequence[int], url: str) -> None:
    """Ids must all be the registry's own, or all be the local ones imported unchanged.

    Raises:
        SchemaError: some are local and some are not, so a reader could not tell who gave an id.
    """
    local = [schema_id for schema_id in ids if lock.is_local(schema_id)]
    if local and len(local) != len(ids):
        raise SchemaError(
            f"the registry at {_shown(url)} holds {len(local)} of {len(ids)} schemas under ids of lock.json "
            "and the others under its own: import all of them, or none"
        )


def _shown(url: str) -> str:
    return url.rpartition("@")[2]
