"""Endpoint of the page's first view."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from lib.server.boundary.peers import annotator_of
from lib.server.endpoints.context import client_errors, served
from lib.server.errors import ClientError
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


class GivenBack(BaseModel):
    """A case that an annotator gives back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    case: str = Field(max_length=160)
    annotator: str = ""


@router.post("/today/given_back", summary="Give a case back, so that others are offered it")
def give_back(given: GivenBack, request: Request) -> dict[str, Any]:
    """JSON as for `today`. A case that this annotator does not hold is an error."""
    app, annotator = served(request), annotator_of(given.annotator)
    with client_errors():
        if not app.workspace.plan.give_back(given.case, annotator=annotator):
            raise ClientError(
                f"{annotator} must hold a case to give it back; {given.case[:80]!r} is held by another name, "
                "or by nobody.",
                status=409,
            )
        return today(request, annotator)
