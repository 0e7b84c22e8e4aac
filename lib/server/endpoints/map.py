"""Endpoints of the pool's map, which is computed once for a plan."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from lib.pipeline.workspace import Workspace
from lib.server.endpoints.context import client_errors, file_response, served
from lib.views.documents.pool_map import pool_map, pool_states
from lib.views.pictures.strips import Strips

router = APIRouter()


@dataclass(frozen=True)
class CompressedJson:
    """A compressed document with its ETag.

    Attributes:
        content: JSON, compressed with gzip.
        tag: ETag, which changes with the content.
    """

    content: bytes
    tag: str


@router.get("/map", summary="Position of each case on the map")
def the_map(request: Request) -> Response:
    """JSON with one column per quantity; 304 for a client that already has it."""
    workspace = served(request).workspace
    plan = workspace.plan.current()
    compressed = _map_of(workspace, plan.id) if plan else _compressed(pool_map(workspace))
    headers = {"ETag": compressed.tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if compressed.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(gzip.decompress(compressed.content), headers=headers, media_type="application/json")
    return Response(
        compressed.content, headers={**headers, "Content-Encoding": "gzip"}, media_type="application/json"
    )


@router.get("/states", summary="Current state of the cases")
def states(request: Request) -> dict[str, Any]:
    """JSON: the labelled, leased and quarantined cases, and whether the plan has expired."""
    now = served(request)
    return pool_states(now.workspace, now.workspace.labels.labelled())


@router.get("/cases/{id}/strip.jpg", summary="A case in every modality", response_class=FileResponse)
def strip(id: str, request: Request) -> FileResponse:
    """A JPEG: one slice per modality, through the position where the modalities differ most."""
    now = served(request)
    case = now.case(id)
    with client_errors():
        now.workspace.verdicts.resolve(case.id)  # refuses a quarantined case, with the reason
        return file_response(_strips(now.workspace).file(case), "image/jpeg")


@lru_cache(maxsize=1)
def _map_of(workspace: Workspace, plan: int) -> CompressedJson:
    return _compressed(pool_map(workspace))


@lru_cache(maxsize=1)
def _strips(workspace: Workspace) -> Strips:
    return Strips(workspace)


def _compressed(document: dict[str, Any]) -> CompressedJson:
    content = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return CompressedJson(
        gzip.compress(content, compresslevel=6, mtime=0),
        f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"',
    )
