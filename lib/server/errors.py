"""The error that a client receives for a bad request: a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from lib.runtime.own_files import NoRoom, Unavailable


class ClientError(MONAILabelException, HTTPException):
    """A MONAI Label error that reaches the client as an HTTP status and a sentence.

    MONAI Label 0.8.5 has no handler for its own exceptions: they reach a client as 500 without a message.
    This one is also an HTTPException, so the client receives its status and its sentence.
    """

    def __init__(self, sentence: str, *, status: int = 400) -> None:
        """Refuse a request; the sentence says what must hold, what was received and what to do."""
        MONAILabelException.__init__(self, MONAILabelError.INVALID_INPUT, sentence)
        HTTPException.__init__(self, status_code=status, detail=sentence)


def client_error(error: Exception, *, status: int) -> ClientError:
    """Client error with the sentence of an error of the domain.

    Args:
        error: Error of the domain.
        status: Status if the program's own data can be used.
    """
    if isinstance(error, NoRoom):
        status = 507
    elif isinstance(error, Unavailable):
        status = 503
    return ClientError(str(error), status=status)


def offered(what: str, name: Any, tasks: Mapping[str, Any]) -> Any:
    """The task that a request names.

    Raises:
        ClientError: 404 if there is no such task.
    """
    task = tasks.get(name) if isinstance(name, str) else None
    if task is None:
        raise ClientError(f"{what} must be one of {', '.join(tasks)}; got {str(name)[:40]!r}.", status=404)
    return task
