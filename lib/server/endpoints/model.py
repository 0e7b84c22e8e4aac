"""Whether the model is getting better, and which version of it answers, for the page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from lib.server.boundary.exposure import administrator
from lib.server.endpoints.context import answering, served
from lib.views.documents.learning_curve import learning_curve

router = APIRouter()


class Choice(BaseModel):
    """Which version is to answer; 0 is the newest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=0)


@router.get("/model", summary="Versions of the model and how good each is")
def model(request: Request) -> dict[str, Any]:
    """Dice by region against labelled patients, failures worst first, the running training."""
    with answering():
        return learning_curve(served(request).workspace)


@router.post(
    "/model/served", summary="Choose the version that answers", dependencies=[Depends(administrator)]
)
def choose(choice: Choice, request: Request) -> dict[str, Any]:
    """As `model`, after the choice."""
    app = served(request)
    with answering():
        app.segmenter.serve(choice.version)
        return learning_curve(app.workspace)
