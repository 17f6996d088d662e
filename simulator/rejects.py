"""Lines and files of the input that were not used, and why. Nothing is left out without an entry here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

KEPT_LINES = 100_000


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A broken input line. `line` counts from 1, header included; `raw` is at most 2,000 characters."""

    file: str
    line: int
    raw: str
    reason: str
    channel: str


@dataclass
class Rejects:
    """Collects rejected lines (the first 100,000 whole, all counted) and skipped files."""

    lines: list[RejectedLine] = field(default_factory=list)
    count: int = 0
    skipped_files: list[dict[str, str]] = field(default_factory=list)

    def line(self, file: str, line: int, raw: bytes, reason: str, channel: str) -> None:
        """Note a broken line."""
        self.count += 1
        if len(self.lines) < KEPT_LINES:
            text = raw[:2000].decode("utf-8", "backslashreplace")
            self.lines.append(RejectedLine(file, line, text, reason, channel))

    def skip(self, file: str, reason: str) -> None:
        """Note a file that is not read at all."""
        self.skipped_files.append({"file": file, "reason": reason})

    def as_json(self) -> list[dict[str, object]]:
        """The rejected lines as GET /sim/rejected shows them."""
        return [asdict(line) for line in self.lines]
