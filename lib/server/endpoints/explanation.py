"""Explanations over HTTP."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from lib.server.endpoints.context import sent, served
from lib.views.exports.explanation_files import MONTAGE, NUMBERS

router = APIRouter(prefix="/mdal/explanation", tags=["MDAL"])

# Plain functions: FastAPI runs them in its threads, so that viewers are answered meanwhile.


@router.get("/{case}.png", summary="Who told whom what, over the images", response_class=FileResponse)
def montage(case: str, request: Request) -> FileResponse:
    """A PNG: a row a modality, its image with the outline, then what the others told it."""
    return _answer(served(request).explanations.file(case, MONTAGE), "image/png", f"{case}.png")


@router.get("/{case}/{sender}/{subtask}/{measure}.nii.gz", summary="One map", response_class=FileResponse)
def contribution_map(case: str, sender: str, subtask: str, measure: str, request: Request) -> FileResponse:
    """A NIfTI on the grid of the case's reference."""
    path = served(request).explanations.map_file(case, sender, subtask, measure)
    return _answer(path, "application/gzip", f"{case}_{path.name}")


@router.get("/{case}", summary="Contribution of each modality", response_class=FileResponse)
def numbers(case: str, request: Request) -> FileResponse:
    """JSON: a sentence, the share of each modality, every message's contribution by each measure."""
    return _answer(served(request).explanations.file(case, NUMBERS), "application/json", f"{case}.json")


def _answer(path: Path, media_type: str, name: str) -> FileResponse:
    return sent(path, media_type, filename=name, content_disposition_type="inline")
