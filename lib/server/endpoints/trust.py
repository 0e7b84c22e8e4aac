"""Whether the plan is to be trusted, for the page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lib.server.endpoints.context import answering, served
from lib.views.documents.trust import trust

router = APIRouter()


@router.get("/trust", summary="What there is to judge the plan by")
def trust_of_plan(request: Request) -> dict[str, Any]:
    """The gates with their figures, what the order follows, coverage, agreement of seeds."""
    with answering():
        return trust(served(request).workspace)
