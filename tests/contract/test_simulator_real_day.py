"""If this fails, a recorded day is played with holes, and every report that rests on it is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from simulator.rejects import Rejects
from simulator.tape import Inputs
from simulator.wire import Streams

LEAN = Path(__file__).parents[3] / "shared" / "data" / "lean"


@pytest.mark.skipif(not LEAN.is_dir(), reason="the Lean sample data is not beside the project")
def test_the_real_day_is_whole() -> None:
    rejects = Rejects()
    counts: Counter[str] = Counter()
    clock = 0
    for block in Inputs([LEAN], rejects).stocks().read(Streams()):
        counts.update(m[2].channel for m in block)
        arrivals = np.array([m[0] for m in block])
        assert arrivals[0] >= clock
        assert (np.diff(arrivals) >= 0).all()
        clock = arrivals[-1]
    assert counts == {"trades": 388_417, "quotes": 292_962}
    assert rejects.count == 0
