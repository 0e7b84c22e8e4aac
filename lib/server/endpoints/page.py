"""The page at `/mdal/`: its files, its security policy and its endpoints."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from lib.server.endpoints.case import router as case_router
from lib.server.endpoints.case_list import router as case_list_router
from lib.server.endpoints.check import router as check_router
from lib.server.endpoints.context import Served
from lib.server.endpoints.explanation import router as explanation_router
from lib.server.endpoints.map import router as map_router
from lib.server.endpoints.model import router as model_router
from lib.server.endpoints.today import router as today_router
from lib.server.endpoints.trust import router as trust_router
from lib.server.errors import ClientError
from lib.server.upstream.application import running_application
from lib.views.static_files import STATIC, policy

_TYPES = {".js": "text/javascript", ".css": "text/css"}

# The shell holds no data, because a browser must load it before the login.
shell = APIRouter(prefix="/mdal", include_in_schema=False)
api = APIRouter(prefix="/mdal/api", tags=["MDAL"])
api.include_router(case_list_router)
api.include_router(case_router)
api.include_router(map_router)
api.include_router(today_router)
api.include_router(trust_router)
api.include_router(model_router)
api.include_router(check_router)


def offer_page(served: Served) -> bool:
    """Serve the page beside MONAI Label's endpoints; its data is behind the same login as the others.

    MONAI Label 0.8.5 has no place for an app's own endpoints. Its application is complete before it creates
    the app, so the page's routes come last; none of MONAI Label's routes takes a path under `/mdal`. When
    MONAI Label creates the app again (`/reload`), the routes stay and answer for the new app.

    Returns:
        False outside a server process, where there is no application.
    """
    application = running_application()
    if application is None:
        return False
    from monailabel.config import settings  # exists in a server process only
    from monailabel.endpoints.user.auth import RBAC

    fresh = not hasattr(application.state, "served")
    application.state.served = served
    if fresh:
        login = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
        application.include_router(shell)
        for router in (api, explanation_router):
            application.include_router(router, dependencies=[login])
    return True


@shell.get("")
def bare(request: Request) -> RedirectResponse:
    """Redirect to the page's folder, because its files have relative addresses."""
    return RedirectResponse("/mdal/")


@shell.get("/")
def index() -> HTMLResponse:
    """The page without any data."""
    content, allowed = _index()
    return HTMLResponse(content, headers={**_headers(), "Content-Security-Policy": allowed})


@shell.get("/static/{path:path}")
def static(path: str) -> FileResponse:
    """One of the page's files."""
    file = _static_files().get(path)
    if file is None:
        raise ClientError("the page has no such file. Load it again.", status=404)
    return FileResponse(file, media_type=_TYPES[file.suffix], headers=_headers())


@lru_cache(maxsize=1)
def _static_files() -> dict[str, Path]:
    """The page's files by the name that a client gives, which is only looked up."""
    return {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.suffix in _TYPES}


def _headers() -> dict[str, str]:
    return {
        "Cache-Control": "no-cache",  # a new release is seen at once; unchanged files answer 304
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


@lru_cache(maxsize=1)
def _index() -> tuple[str, str]:
    """The page's HTML and its Content-Security-Policy."""
    content = (STATIC / "index.html").read_text()
    others = "connect-src 'self'; worker-src 'self' blob:; form-action 'self'; frame-ancestors 'self'"
    return content, policy(content, others=others)
