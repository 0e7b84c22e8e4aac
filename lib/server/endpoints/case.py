"""Endpoints of one case: its facts, a still picture, and the volumes for the page's viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from lib.cases.case import Case
from lib.labels.versions import check_tag
from lib.server.boundary.exposure import administrator
from lib.server.boundary.peers import annotator_of
from lib.server.endpoints.context import client_errors, file_response, served
from lib.views.documents.case_document import case_document
from lib.views.documents.case_files import CaseFiles

router = APIRouter(prefix="/cases/{id}")

# Plain functions: FastAPI runs them in threads, so that the event loop stays free for other requests.


@router.get("", summary="Facts about a case")
def case(id: str, request: Request) -> dict[str, Any]:
    """JSON: the reason for its rank, the pool check, the modalities, the history."""
    app = served(request)
    with client_errors():
        return case_document(CaseFiles(app.workspace, app.segmenter), app.case(id))


@router.get("/planes.jpg", summary="Every modality in three planes", response_class=FileResponse)
def planes(id: str, request: Request) -> FileResponse:
    """A JPEG through the label, or through where the modalities differ most."""
    return _file(id, request, CaseFiles.planes, "image/jpeg")


@router.get("/images/{modality}.nii.gz", summary="A modality", response_class=FileResponse)
def image(id: str, modality: str, request: Request) -> FileResponse:
    """A NIfTI in HU, SUV or the MR's own numbers, on the modality's own grid."""
    return _file(id, request, lambda files, case: files.image(case, modality))


@router.get("/segmentation.nii.gz", summary="The model's segmentation", response_class=FileResponse)
def segmentation(id: str, request: Request) -> FileResponse:
    """A NIfTI with the label values, on the grid of the case's reference."""
    return _file(id, request, CaseFiles.segmentation)


@router.get("/uncertainty.nii.gz", summary="Where the model is unsure", response_class=FileResponse)
def uncertainty(
    id: str, request: Request, modality: Annotated[str, Query(max_length=160)] = ""
) -> FileResponse:
    """A NIfTI in nats, on the grid of a modality, or of the case's reference; 0.693 is a coin toss."""
    return _file(id, request, lambda files, case: files.uncertainty(case, modality))


@router.get("/labels/{tag}.nii.gz", summary="A reader's label", response_class=FileResponse)
def label(id: str, tag: str, request: Request) -> FileResponse:
    """A NIfTI with the label values, on the grid on which the reader drew."""
    return _file(id, request, lambda files, case: files.label(case, tag))


class Choice(BaseModel):
    """Choice of the version of a label that becomes current again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=1)
    reader: str = Field(default="", max_length=160)


@router.post(
    "/labels/{tag}/current",
    summary="Make an earlier version of a label current again",
    dependencies=[Depends(administrator)],
)
def restore(id: str, tag: str, choice: Choice, request: Request) -> dict[str, Any]:
    """JSON as for the case, after the choice; no version is lost."""
    app = served(request)
    case = app.case(id)
    with client_errors():
        reader = annotator_of(choice.reader) if choice.reader else ""
        version = app.workspace.labels.restore(case, check_tag(tag), choice.version, reader=reader)
        about = {"version": version.number, "of": choice.version}
        app.workspace.plan.events.record("restored", case.id, reader or None, about)
        return case_document(CaseFiles(app.workspace, app.segmenter), case)


@router.get(
    "/difference/{first}/{second}.nii.gz",
    summary="Where two modalities differ",
    response_class=FileResponse,
)
def difference(id: str, first: str, second: str, request: Request) -> FileResponse:
    """A NIfTI with the departure of each place in deviations, on the grid of the case's reference."""
    return _file(id, request, lambda files, case: files.difference(case, f"{first}/{second}"))


def _file(
    id: str,
    request: Request,
    find: Callable[[CaseFiles, Case], Path],
    media_type: str = "application/gzip",
) -> FileResponse:
    app = served(request)
    case = app.case(id)
    with client_errors():
        return file_response(find(CaseFiles(app.workspace, app.segmenter), case), media_type)
