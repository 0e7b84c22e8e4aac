"""Endpoints of the pool check."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from lib.server.endpoints.context import client_errors, file_response, served
from lib.views.documents.pool_check import pool_check
from lib.views.pictures.checkerboard import Checkerboards

router = APIRouter()


@router.get("/check", summary="Result of the pool check")
def check(request: Request) -> dict[str, Any]:
    """JSON: counts, and every case with findings, worst first."""
    with client_errors():
        return pool_check(served(request).workspace)


@router.get(
    "/cases/{id}/checkerboard.jpg", summary="Two images as a checkerboard", response_class=FileResponse
)
def checkerboard(id: str, first: str, second: str, request: Request) -> FileResponse:
    """A JPEG of both images, alone and as a checkerboard, with the outlines of the body."""
    app = served(request)
    case = app.case(id)
    with client_errors():
        return file_response(Checkerboards(app.workspace).file(case, first, second), "image/jpeg")
