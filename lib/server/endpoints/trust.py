"""Endpoint of the checks by which to judge the plan."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lib.server.endpoints.context import client_errors, served
from lib.views.documents.trust import trust

router = APIRouter()


@router.get("/trust", summary="Checks of the plan")
def trust_of_plan(request: Request) -> dict[str, Any]:
    """JSON: the gates with their figures, correlations of the order, coverage, agreement of seeds."""
    with client_errors():
        return trust(served(request).workspace)
