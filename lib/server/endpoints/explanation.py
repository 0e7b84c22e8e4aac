"""Endpoints of the explanations."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from lib.server.endpoints.context import file_response, served
from lib.views.exports.explanation_files import MONTAGE, NUMBERS

router = APIRouter(prefix="/mdal/explanation", tags=["MDAL"])

# Plain functions: FastAPI runs them in threads, so that the event loop stays free for other requests.


@router.get(
    "/{case}.png", summary="Contributions of the modalities, over the images", response_class=FileResponse
)
def montage(case: str, request: Request) -> FileResponse:
    """A PNG with a row per modality: the image with the outline, then the contributions of the others."""
    return _inline_file(served(request).explanations.file(case, MONTAGE), "image/png", f"{case}.png")


@router.get(
    "/{case}/{sender}/{subtask}/{measure}.nii.gz", summary="One contribution map", response_class=FileResponse
)
def contribution_map(case: str, sender: str, subtask: str, measure: str, request: Request) -> FileResponse:
    """A NIfTI on the grid of the case's reference."""
    path = served(request).explanations.map_file(case, sender, subtask, measure)
    return _inline_file(path, "application/gzip", f"{case}_{path.name}")


@router.get("/{case}", summary="Contribution of each modality in numbers", response_class=FileResponse)
def numbers(case: str, request: Request) -> FileResponse:
    """JSON: a sentence, the share of each modality, and every message's contribution by each measure."""
    return _inline_file(served(request).explanations.file(case, NUMBERS), "application/json", f"{case}.json")


def _inline_file(path: Path, media_type: str, name: str) -> FileResponse:
    return file_response(path, media_type, filename=name, content_disposition_type="inline")
