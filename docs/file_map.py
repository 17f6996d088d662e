"""Writes the file map in docs/design.md from the first line of every module's docstring: `make map`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DESIGN = ROOT / "docs" / "design.md"
PACKAGES = (
    "producers",
    "processors",
    "replay",
    "sinks",
    "schemas",
    "simulator",
    "verify",
    "tidewire",
    "console",
    "benchmarks",
)
BEGIN, END = "<!-- map: begin -->\n", "<!-- map: end -->\n"


def first_line(path: Path) -> str:
    """The first sentence that a module says of itself."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def row(path: Path, package: Path) -> str:
    """One line of a package's table."""
    said = first_line(path).replace("|", "\\|")
    return f"| `{path.relative_to(package)}` | {said} |"


def rendered() -> str:
    """The map: one table a package, one row a file."""
    parts = []
    for package in PACKAGES:
        files = sorted(
            (ROOT / package).rglob("*.py"), key=lambda p: (p.parent, p.name != "__init__.py", p.name)
        )
        rows = [row(path, ROOT / package) for path in files]
        parts.append("\n".join((f"### {package}/\n", "| file | what it is for |", "|---|---|", *rows, "\n")))
    return "\n".join(parts)


def with_map(text: str) -> str:
    """The document with today's map between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rendered()}{END}{after}"


if __name__ == "__main__":
    DESIGN.write_text(with_map(DESIGN.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {DESIGN.relative_to(ROOT)}\n")
