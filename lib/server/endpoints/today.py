"""Endpoint of the page's first view."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lib.server.endpoints.context import served
from lib.server.tasks.strategies import annotator_of
from lib.views.documents.today import today_document

router = APIRouter()


@router.get("/today", summary="The next case, progress of the plan, running jobs, readers at work")
def today(request: Request, annotator: str = "") -> dict[str, Any]:
    """JSON for one annotator; no case is leased."""
    app = served(request)
    document = today_document(app.workspace, annotator_of(annotator))
    if trouble := app.trouble():
        document["warnings"].insert(0, trouble)
    return document
