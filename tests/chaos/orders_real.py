"""What `tidewire service executor` runs, for a process that is forked."""

from __future__ import annotations

from sinks.executor import app
from tidewire import config
from tidewire.supervision import lifeline


def main() -> int:
    """Run the service; returns its exit code."""
    lifeline.hold()
    return app.main(config.load(_env_file=None))
