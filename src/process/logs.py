"""Structured logs: one JSON object per line on standard output, with the service's name and the ids concerned."""

import logging
import os
import sys
from typing import Any

import msgspec
import structlog

PROCESS_NAME = "SUPERVISOR_PROCESS_NAME"
"""The environment variable in which supervisord passes the name of this instance of the service."""


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure(service: str, level: str = "info") -> None:
    """Set up logging for this process. structlog and the standard library's loggers write the same format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer(serializer=_encode)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if instance := os.environ.get(PROCESS_NAME):
        structlog.contextvars.bind_contextvars(instance=instance)

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for noisy in ("aiosqlite", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
