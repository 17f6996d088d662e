"""The --rate option of the simulated market."""

from __future__ import annotations

from typing import Literal

import typer

Rate = float | Literal["max", "real"]


def parse(text: str) -> Rate:
    """Messages a second, `max` or `real` (the tape's own pace).

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text == "max" or text == "real":
        return text  # type: ignore[return-value]
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise typer.BadParameter(
            f"{text!r} is not a rate: messages a second (such as 5000), max, or real", param_hint="--rate"
        )
    return number
