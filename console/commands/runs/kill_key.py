"""The kill switch by a key of the demo: on, and with the next press off. It is off when the demo ends."""

from __future__ import annotations

from contextlib import suppress

import aiohttp

from sinks.executor import kill_file, kill_setup
from sinks.executor.kill import Report, Wish
from tidewire import accounts
from tidewire.config import Settings
from tidewire.errors import TidewireError
from tidewire.supervision.run_files import of_the_demo


class KillKey:
    """For the demo that runs from the settings' home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ours = False

    async def turn(self) -> str:
        """Turn it to the other side; returns what to say.

        Raises:
            TidewireError: it cannot be turned.
        """
        on = kill_file.why_on(self._settings.tidewire_home, kill_file.ALL) is None
        report = await self._turn(on)
        self._ours = on
        said = "no order passes" if on else "orders pass again"
        confirmed = (
            "confirmed by the broker" if report.confirmed else "NOT confirmed (`tidewire kill status`)"
        )
        return f"the kill switch is {'on' if on else 'off'}, {confirmed}: {said}"

    async def release(self) -> None:
        """Turn it off if a key has turned it on: the next demo begins without it."""
        if self._ours:
            self._ours = False
            with suppress(TidewireError):
                await self._turn(False)

    async def _turn(self, on: bool) -> Report:
        settings = of_the_demo(self._settings)
        async with aiohttp.ClientSession() as session:
            kill = kill_setup.of_settings(settings, accounts.load(settings), session)
            return await kill.turn(Wish(on, reason="a key of the demo", by="demo"))
