"""The map of the pool over HTTP: made once for a plan, then answered as it is kept."""

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
from lib.server.endpoints.context import answering, sent, served
from lib.views.documents.pool_map import pool_map, pool_states
from lib.views.pictures.strips import Strips

router = APIRouter()


@dataclass(frozen=True)
class Packed:
    """A document as it is sent.

    Attributes:
        content: JSON, compressed.
        tag: Changes with the content.
    """

    content: bytes
    tag: str


@router.get("/map", summary="Where each case of the plan lies")
def the_map(request: Request) -> Response:
    """JSON with a column a quantity; not sent again to a client that has it."""
    workspace = served(request).workspace
    plan = workspace.plan.current()
    packed = _map_of(workspace, plan.id) if plan else _packed(pool_map(workspace))
    headers = {"ETag": packed.tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}
    if packed.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(gzip.decompress(packed.content), headers=headers, media_type="application/json")
    return Response(
        packed.content, headers={**headers, "Content-Encoding": "gzip"}, media_type="application/json"
    )


@router.get("/states", summary="What happens to the cases now")
def states(request: Request) -> dict[str, Any]:
    """Labelled, leased and quarantined cases, and whether the plan has expired."""
    now = served(request)
    return pool_states(now.workspace, now.workspace.labels.labelled())


@router.get("/cases/{id}/strip.jpg", summary="A case in every modality", response_class=FileResponse)
def strip(id: str, request: Request) -> FileResponse:
    """A JPEG: one slice through the place where the modalities differ most."""
    now = served(request)
    case = now.case(id)
    with answering():
        now.workspace.verdicts.resolve(case.id)  # refuses what is in quarantine, and says why
        return sent(_strips(now.workspace).file(case), "image/jpeg")


@lru_cache(maxsize=1)
def _map_of(workspace: Workspace, plan: int) -> Packed:
    return _packed(pool_map(workspace))


@lru_cache(maxsize=1)
def _strips(workspace: Workspace) -> Strips:
    return Strips(workspace)


def _packed(document: dict[str, Any]) -> Packed:
    content = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return Packed(
        gzip.compress(content, compresslevel=6, mtime=0),
        f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"',
    )
