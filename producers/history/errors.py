"""How a look into Alpaca's history can fail."""

from __future__ import annotations

from typing import Literal

Kind = Literal["too_recent", "refused", "failed"]


class HistoryError(Exception):
    """A request that was not answered as hoped. The text never holds keys.

    `status` is HTTP's, 0 without an answer. `kind` says what to do: `failed` passes (ask again later),
    `too_recent` passes at `again_ns` (ns since 1970 UTC), `refused` does not pass.
    """

    def __init__(self, status: int, text: str, kind: Kind = "failed", again_ns: int | None = None) -> None:
        self.status, self.kind, self.again_ns = status, kind, again_ns
        super().__init__(f"HTTP {status}: {text}" if status else text)

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.kind != "refused"
