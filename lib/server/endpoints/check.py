"""Endpoints of the pool check."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from lib.server.boundary.exposure import administrator
from lib.server.boundary.peers import annotator_of
from lib.server.endpoints.context import client_errors, file_response, served
from lib.views.documents.pool_check import pool_check
from lib.views.pictures.checkerboard import Checkerboards

router = APIRouter()


@router.get("/check", summary="Result of the pool check")
def check(request: Request) -> dict[str, Any]:
    """JSON: counts, and every case with findings, worst first."""
    with client_errors():
        return pool_check(served(request).workspace)


class Review(BaseModel):
    """Release of a case that the check holds back, or its end."""

    model_config = ConfigDict(extra="forbid", strict=True)

    case: str = Field(max_length=200)
    released: bool
    reader: str = Field(default="", max_length=160)


@router.post(
    "/check/released",
    summary="Release a case that a person looked at, or hold it back again",
    dependencies=[Depends(administrator)],
)
def review(given: Review, request: Request) -> dict[str, Any]:
    """JSON as for `check`, after the release."""
    app = served(request)
    case = app.case(given.case)
    with client_errors():
        reader = annotator_of(given.reader) if given.reader else ""
        if given.released:
            app.workspace.verdicts.release(case.id, by=reader)
        else:
            app.workspace.verdicts.hold_back(case.id)
        kind = "released" if given.released else "held back"
        app.workspace.plan.events.record(kind, case.id, reader or None, {})
        return pool_check(app.workspace)


@router.get(
    "/cases/{id}/checkerboard.jpg", summary="Two images as a checkerboard", response_class=FileResponse
)
def checkerboard(id: str, first: str, second: str, request: Request) -> FileResponse:
    """A JPEG of both images, alone and as a checkerboard, with the outlines of the body."""
    app = served(request)
    case = app.case(id)
    with client_errors():
        return file_response(Checkerboards(app.workspace).file(case, first, second), "image/jpeg")
