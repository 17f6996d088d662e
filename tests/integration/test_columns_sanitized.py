"""The native decoder under gcc's sanitizers, where there is one: no byte is touched that is not its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tidewire.columns.native import library

ROOT = Path(__file__).parents[2]
_FLAGS = ("-std=c99", "-O1", "-g", "-shared", "-fPIC", "-fsanitize=address,undefined")
_RUN = """
import sys
from pathlib import Path
from tidewire.columns.native import library
class Sanitized(library.Library):
    path = Path(sys.argv[1])
library.LIBRARY = Sanitized(library.LIBRARY.name, library.LIBRARY.folder, library.LIBRARY.symbol)
assert library.load() is not None
from schemas.catalogue import stems
from tests.unit.test_columns_native import mutations
for seed, stem in enumerate(stems()):
    mutations(stem, seed, 30)
print("nothing was touched")
"""


def test_broken_bytes_lead_nowhere_outside_what_was_given(tmp_path: Path) -> None:
    """Somebody who can write to a topic must not be able to read or change the memory of the readers."""
    gcc = shutil.which("gcc")
    if gcc is None or sys.platform != "linux":
        pytest.skip("no gcc")
    built = tmp_path / "decode.so"
    source = f'-DTIDEWIRE_SOURCE="{library.LIBRARY.fingerprint()}"'
    made = subprocess.run(
        [gcc, *_FLAGS, "-fno-sanitize-recover=undefined", source, "-o", built, *library.LIBRARY.sources]
    )
    if made.returncode:
        pytest.skip("gcc has no sanitizers")
    parts = [
        subprocess.run([gcc, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, built],
        cwd=ROOT,
        env=os.environ
        | {"LD_PRELOAD": " ".join(parts), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
    )
    assert "nothing was touched" in done.stdout, done.stderr[-4000:]
