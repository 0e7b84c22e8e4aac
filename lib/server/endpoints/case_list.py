"""Endpoint of the list of all cases."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from lib.server.endpoints.context import served
from lib.views.documents.case_list import case_list

router = APIRouter()


@router.get("/cases", summary="All cases with their states, readers and structures")
def cases(request: Request) -> dict[str, Any]:
    """JSON: one entry for each case of the pool."""
    return case_list(served(request).workspace)
