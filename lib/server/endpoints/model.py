"""Endpoints of the model: its learning curve, and the choice of the version that answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from lib.server.boundary.exposure import administrator
from lib.server.endpoints.context import client_errors, served
from lib.views.documents.learning_curve import learning_curve

router = APIRouter()


class Choice(BaseModel):
    """Choice of the version that answers; 0 means the newest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=0)


@router.get("/model", summary="Versions of the model and their quality")
def model(request: Request) -> dict[str, Any]:
    """JSON: Dice by region against labelled patients, validation patients worst first, the training."""
    with client_errors():
        return learning_curve(served(request).workspace)


@router.post(
    "/model/served", summary="Choose the version that answers", dependencies=[Depends(administrator)]
)
def choose(choice: Choice, request: Request) -> dict[str, Any]:
    """JSON as in `model`, after the choice."""
    app = served(request)
    with client_errors():
        app.segmenter.serve(choice.version)
        return learning_curve(app.workspace)
