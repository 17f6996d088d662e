"""The documents tell a newcomer where things are; a stale map costs them an afternoon."""

from __future__ import annotations

import importlib.util
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_map_in_the_design_names_every_file_as_it_names_itself() -> None:
    spec = importlib.util.spec_from_file_location("file_map", DOCS / "file_map.py")
    assert spec is not None
    assert spec.loader is not None
    file_map = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file_map)
    text = (DOCS / "design.md").read_text("utf-8")
    assert file_map.with_map(text) == text, "run `make map`"
    assert "| `__init__.py` |  |" not in text, "a module says nothing of itself"
