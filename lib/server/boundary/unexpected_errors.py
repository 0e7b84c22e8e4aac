"""Responses to exceptions that no endpoint caught: a sentence for the client, never a traceback."""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelException
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.runtime.errors import UserError
from lib.server.boundary.os_errors import answer_to
from lib.server.errors import ClientError, client_error

ErrorHandler = Callable[[Request, Any], Awaitable[Response]]
logger = logging.getLogger(__name__)


class UnexpectedErrors:
    """Middleware that answers an uncaught exception with 500 and an error id; the log has the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            return  # the client no longer waits
        except Exception:
            id = secrets.token_hex(4)
            logger.exception("error %s in %s %s", id, scope.get("method"), scope.get("path"))
            if started:  # the rest cannot be sent; the server closes the connection
                return
            sentence = f"something went wrong in the server. Its log says what, under error {id}."
            await JSONResponse({"detail": sentence}, 500)(scope, receive, send)


def handle_known_errors(application: FastAPI) -> None:
    """Answer exceptions whose cause people can correct with a status and a sentence."""
    answers: tuple[tuple[type[Exception], ErrorHandler], ...] = (
        (ClientError, http_exception_handler),  # also a MONAILabelException, so it comes first
        (MONAILabelException, _answer_monai_label_error),
        (UserError, _answer_user_error),
        (SQLAlchemyError, _answer_database_error),
        (OSError, _answer_os_error),
        (sqlite3.Error, _answer_os_error),
        (RequestValidationError, _answer_invalid_request),
        (HTTPException, _answer_http_error),
    )
    for kind, answer in answers:
        application.add_exception_handler(kind, answer)


async def _answer_monai_label_error(_: Request, error: MONAILabelException) -> JSONResponse:
    return _sentence(400, str(error.msg))


async def _answer_user_error(request: Request, error: UserError) -> Response:
    return await http_exception_handler(request, client_error(error, status=409))


async def _answer_database_error(_: Request, error: SQLAlchemyError) -> JSONResponse:
    logger.error("the plan's database does not answer: %s", error)  # not for clients: the message names hosts
    return _sentence(
        503, "the plan's database must answer; it does not. Try again later; the server's log says more."
    )


async def _answer_os_error(_: Request, error: OSError | sqlite3.Error) -> JSONResponse:
    """Answer for a disk that is full, read-only or gone.

    Raises:
        Exception: The error itself, if it has another cause.
    """
    answer = answer_to(error)
    if answer is None:
        raise error
    logger.error("%s", error)
    return _sentence(*answer)


async def _answer_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    """Answer in a sentence; FastAPI's own answer repeats what was sent, and fails if that is no text."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _sentence(400, "the body must be JSON; it cannot be read as JSON. Correct what is sent.")
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "missing":
        sentence = f"{place[:80]} must be sent; it is missing. Every argument is listed at /."
    else:
        sentence = f"{place[:80]} must fit; {first['msg'][:200]}. Every argument is listed at /."
    return _sentence(422, sentence)


async def _answer_http_error(request: Request, error: HTTPException) -> Response:
    """Answer in a sentence where the framework has only a phrase."""
    if isinstance(cause := error.__cause__, OSError) and answer_to(cause):  # such as a full disk
        return await _answer_os_error(request, cause)
    if isinstance(error.__context__, MultiPartException):
        error.detail = f"the form must be whole; it is not: {error.detail} Correct what is sent."
    elif sentence := _PHRASES.get(str(error.detail)):
        error.detail = sentence
    return await http_exception_handler(request, error)


_PHRASES = {
    "Not Found": "there is nothing at this address. Every address is listed at /.",
    "Method Not Allowed": "this address does not take this HTTP method. Every address is listed at /.",
    "There was an error parsing the body": "the body must be what this address takes; it cannot be read. "
    "Correct what is sent.",
}


def _sentence(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status)
