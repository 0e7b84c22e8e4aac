"""Log lines of MONAI Label and its libraries that tell no event: they are not printed."""

from __future__ import annotations

import logging

_TICKS = (
    "monailabel.endpoints.activelearning",  # every answer of Next Sample, with the PatientID
    "monailabel.interfaces.app",
    "monailabel.interfaces.utils.app",
    "monailabel.utils.async_tasks.task",
    "monailabel.utils.async_tasks.utils",  # the environment and the whole command of each job
    "monailabel.utils.others.class_utils",  # the list of all modules
    "monailabel.utils.sessions",
    "timeloop",
)


def quiet_logs() -> None:
    """Let these loggers print warnings and errors only, whatever level is set for them later."""
    for name in _TICKS:
        logging.getLogger(name).addFilter(_is_event)


def _is_event(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
