"""The pool check, for the page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from lib.server.endpoints.context import answering, sent, served
from lib.views.documents.pool_check import pool_check
from lib.views.pictures.checkerboard import Checkerboards

router = APIRouter()


@router.get("/check", summary="What the pool check says")
def check(request: Request) -> dict[str, Any]:
    """Counts, and every case with doubts, worst first."""
    with answering():
        return pool_check(served(request).workspace)


@router.get("/cases/{id}/checkerboard.jpg", summary="Two images on each other", response_class=FileResponse)
def checkerboard(id: str, first: str, second: str, request: Request) -> FileResponse:
    """A JPEG of both, alone and as a checkerboard, with the body's outlines."""
    app = served(request)
    case = app.case(id)
    with answering():
        return sent(Checkerboards(app.workspace).file(case, first, second), "image/jpeg")
