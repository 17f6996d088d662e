"""Structured logs: readable lines on a terminal, one JSON object a line when asked (TIDEWIRE_LOG=json)."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from tidewire.config import Settings

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(settings: Settings, service: str) -> None:
    """Send the logs of tidewire and of the libraries it uses to stderr, marked with the service's name."""
    json_lines = settings.tidewire_log == "json"
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # a rich one would show keys among the locals
        )
    )
    tail: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if json_lines:
        tail.append(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[*tail, renderer])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.tidewire_log_level.upper())
    for noisy in ("aiokafka", "kafka", "faust", "mode", "aiohttp.access", "alpaca", "websockets"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log.info("connected", feed="iex")`; the event is a short phrase, the rest are fields."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
