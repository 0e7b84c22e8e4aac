"""What a client gets when it asked for something that cannot be: a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException


class ClientError(MONAILabelException, HTTPException):
    """A MONAI Label error that its HTTP layer answers with 4xx and the sentence.

    MONAI Label 0.8.5 has no handler for its own exceptions: they reach a client as 500 without a word.
    Being an HTTPException too, this one reaches it as meant.
    """

    def __init__(self, sentence: str, *, status: int = 400) -> None:
        """Refuse with a sentence that says what must hold, what was received and what to do."""
        MONAILabelException.__init__(self, MONAILabelError.INVALID_INPUT, sentence)
        HTTPException.__init__(self, status_code=status, detail=sentence)


def offered(what: str, name: Any, tasks: Mapping[str, Any]) -> Any:
    """The task that a request names.

    Raises:
        Refusal: 404 if there is none.
    """
    task = tasks.get(name) if isinstance(name, str) else None
    if task is None:
        raise ClientError(f"{what} must be one of {', '.join(tasks)}; got {str(name)[:40]!r}.", status=404)
    return task
