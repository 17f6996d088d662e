"""A text file with a message a line as blocks of a tape: what a line holds is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from simulator.lines import ReadError, blocks, open_text
from simulator.rejects import Rejects
from simulator.wire import OTHER, Message


def read(path: Path, parse: Callable[[bytes], Message | str], rejects: Rejects) -> Iterator[list[Message]]:
    """The messages of a file in its order, in blocks that never end within messages of one arrival time.

    `parse` gives a line's message, or says why it is none; arrival never goes back.
    """
    held: list[Message] = []
    line, clock = 0, 0
    try:
        with open_text(path) as text:
            for block in blocks(text):
                for raw in block.removesuffix(b"\n").split(b"\n"):
                    line += 1
                    message = parse(raw)
                    if isinstance(message, str):
                        rejects.line(str(path), line, raw, message, OTHER)
                        continue
                    clock = max(clock, message[0])
                    held.append((clock, *message[1:]))
                cut = next((i for i in range(len(held), 0, -1) if held[i - 1][0] != clock), 0)
                if cut:
                    yield held[:cut]
                    held = held[cut:]
    except (ReadError, OSError, EOFError) as error:
        rejects.line(str(path), line + 1, b"", f"the file ends here: {error}", OTHER)
    if held:
        yield held
