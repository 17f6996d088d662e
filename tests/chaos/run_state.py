"""What a long run of faults has done, kept in a file, so that one that was broken off goes on there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass
class RunState:
    """What is done of an area's work. `outcomes`: the numbers of each part that was played to its end."""

    seed: int
    full: bool
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, seed: int, full: bool) -> Self:
        """That of a full run which was broken off; otherwise a new one."""
        try:
            kept = cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(seed, full)
        return kept if full and kept.full else cls(seed, full)

    def save(self, path: Path) -> None:
        """Keep it; replaced whole, so that a kill leaves the one before."""
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=2) + "\n")
        new.replace(path)
