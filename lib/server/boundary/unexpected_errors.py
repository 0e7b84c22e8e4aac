"""Responses to exceptions that no endpoint caught: a sentence for the client, never a traceback."""

from __future__ import annotations

import errno
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelException
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.runtime.errors import UserError
from lib.runtime.own_files import Unavailable
from lib.server.errors import ClientError

ErrorHandler = Callable[[Request, Any], Awaitable[Response]]
logger = logging.getLogger(__name__)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


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
        (Unavailable, _answer_unavailable),
        (UserError, _answer_user_error),
        (SQLAlchemyError, _answer_database_error),
        (OSError, _answer_os_error),
    )
    for kind, answer in answers:
        application.add_exception_handler(kind, answer)


async def _answer_monai_label_error(_: Request, error: MONAILabelException) -> JSONResponse:
    return _sentence(400, str(error.msg))


async def _answer_user_error(_: Request, error: UserError) -> JSONResponse:
    return _sentence(409, str(error))


async def _answer_unavailable(_: Request, error: Unavailable) -> JSONResponse:
    return _sentence(503, str(error))


async def _answer_database_error(_: Request, error: SQLAlchemyError) -> JSONResponse:
    logger.error("the plan's database does not answer: %s", error)  # not for clients: the message names hosts
    return _sentence(
        503, "the plan's database must answer; it does not. Try again later; the server's log says more."
    )


async def _answer_os_error(_: Request, error: OSError) -> JSONResponse:
    """Answer for a full or read-only disk.

    Raises:
        OSError: If the error has another cause.
    """
    if error.errno in _NO_ROOM:
        sentence = "the server's disk must have room; it has none left. Nothing was stored. Make room there."
    elif error.errno in _NOT_WRITABLE:
        sentence = (
            "the server must be allowed to read and write its folders; it is not. Nothing was stored. "
            "See --conf work_dir."
        )
    else:
        raise error
    logger.error("%s", error)
    return _sentence(507, sentence)


def _sentence(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status)
