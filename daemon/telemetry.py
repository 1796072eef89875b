"""
The log: for people on a terminal, JSON lines elsewhere, always on stderr.

In:  what the stages log through structlog, and the libraries through logging. Out: one line for each event.
What people typed and who they are stays out of it.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_PRIVATE: Final = frozenset({"q", "query", "user_query", "client_id", "session_id", "user_id"})


def configure_logging(*, debug: bool) -> None:
    """Log from info up, or from debug; of the libraries only warnings and errors. The last call counts."""
    level = logging.DEBUG if debug else logging.INFO
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _withhold,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,  # a logger made at import would keep the set-up of that moment
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers()],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("relevanced").setLevel(level)
    if not debug:
        # It reports every attempt to connect as an error; consumers.kafka says in one sentence what came of them.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _renderers() -> list[structlog.typing.Processor]:
    if sys.stderr.isatty():
        # Not the formatter that rich brings: it prints local variables, and so the words of a query.
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in _PRIVATE & event.keys():
        event[name] = "(withheld)"
    return event
