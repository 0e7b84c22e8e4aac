"""Whether the model is getting better, and which version of it answers, for the page."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from lib.overview.learning_curve import learning_curve
from lib.web.context import answering, served

router = APIRouter()


class Choice(BaseModel):
    """Which version is to answer; 0 is the newest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=0)


async def administrator(request: Request) -> None:
    """Where the login is on, only MONAI Label's administrators go on from here.

    Raises:
        HTTPException: 401 without a valid token, 403 for anybody else.
    """
    from monailabel.config import settings  # only a server has them
    from monailabel.endpoints.user.auth import RBAC, get_current_user, oauth2_scheme

    if settings.MONAI_LABEL_AUTH_ENABLE:
        user = await get_current_user(await oauth2_scheme(request))
        await RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)(user)


@router.get("/model", summary="Versions of the model and how good each is")
def model(request: Request) -> dict[str, Any]:
    """Dice by region against labelled patients, failures worst first, the running training."""
    with answering():
        return learning_curve(served(request).site)


@router.post(
    "/model/served", summary="Choose the version that answers", dependencies=[Depends(administrator)]
)
def choose(choice: Choice, request: Request) -> dict[str, Any]:
    """As `model`, after the choice."""
    app = served(request)
    with answering():
        app.segmenter.serve(choice.version)
        return learning_curve(app.site)
