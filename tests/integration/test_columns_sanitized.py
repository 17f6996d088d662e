"""The native readers of records and of frames under gcc's sanitizers: no byte is touched but their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from producers.native import library as frames
from tidewire.columns.native import library as columns
from tidewire.native import Library

ROOT = Path(__file__).parents[2]
_FLAGS = ("-std=c99", "-O1", "-g", "-shared", "-fPIC", "-fsanitize=address,undefined")
_RUN = """
import sys
from importlib import import_module
from pathlib import Path
library = import_module(sys.argv[2])
from tidewire.native import Library
class Sanitized(Library):
    path = Path(sys.argv[1])
library.LIBRARY = Sanitized(library.LIBRARY.name, library.LIBRARY.folder, library.LIBRARY.symbol)
assert library.load() is not None
"""
_DECODE = """
from schemas.catalogue import stems
from tests.unit.test_columns_native import mutations
for seed, stem in enumerate(stems()):
    mutations(stem, seed, 30)
print("nothing was touched")
"""
_FRAMES = """
from producers import whole_frames
from tests.unit.test_producer_whole_frames import mutations
whole_frames.LEAST_BYTES = 0
assert mutations(3, 3_000) > 100
print("nothing was touched")
"""


@pytest.mark.parametrize(
    ("module", "library", "spoil"),
    [(columns.__name__, columns.LIBRARY, _DECODE), (frames.__name__, frames.LIBRARY, _FRAMES)],
    ids=["decode", "frames"],
)
def test_broken_bytes_lead_nowhere_outside_what_was_given(
    tmp_path: Path, module: str, library: Library, spoil: str
) -> None:
    """Somebody who can write to a topic must not be able to read or change the memory of the readers."""
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        pytest.skip("no gcc")
    built = tmp_path / "sanitized.so"
    source = f'-DTIDEWIRE_SOURCE="{library.fingerprint()}"'
    made = subprocess.run(
        [gcc, *_FLAGS, "-fno-sanitize-recover=undefined", source, "-o", built, *library.sources]
    )
    if made.returncode:
        pytest.skip("gcc has no sanitizers")
    parts = [
        subprocess.run([gcc, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    done = subprocess.run(
        [sys.executable, "-c", _RUN + spoil, built, module],
        cwd=ROOT,
        env=os.environ
        | {"LD_PRELOAD": " ".join(parts), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
    )
    assert "nothing was touched" in done.stdout, done.stderr[-4000:]
