"""Middleware that checks every request before an endpoint runs."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from lib.pipeline.settings import AppSettings
from lib.server.boundary.exposure import (
    ADMINISTRATION,
    Endpoints,
    administrator_or_this_machine,
    closed_endpoints,
)
from lib.server.boundary.forms import check_given_once
from lib.server.boundary.origins import Origins
from lib.server.boundary.peers import peer
from lib.server.boundary.response_headers import ResponseHeaders
from lib.server.boundary.unexpected_errors import UnexpectedErrors, handle_known_errors
from lib.server.upstream.application import running_application

IN_MEMORY_BYTES = 16 * 2**20  # largest body that an endpoint reads whole: JSON, or a form without files
PROXIED_BYTES = 512 * 2**20  # largest upload to the PACS, which MONAI Label's proxy holds in memory


class Boundary:
    """Middleware that refuses requests from foreign pages, to closed endpoints, or with too many bytes."""

    def __init__(
        self, app: ASGIApp, *, origins: Origins, closed: Sequence[Endpoints], upload_bytes: int
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            origins: Web pages that may send requests.
            closed: Endpoints that nobody may use.
            upload_bytes: Maximum size of a form with files, in bytes.
        """
        self.app, self.origins, self.closed, self.upload_bytes = app, origins, closed, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, then pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        peer.set(request.client.host if request.client else "")
        limit = self._limit(request)
        try:
            await self._check(request, limit)
        except HTTPException as err:
            await JSONResponse({"detail": err.detail}, err.status_code, err.headers)(scope, receive, send)
            return
        await RequestBodyLimitMiddleware(self.app, limit)(scope, receive, send)

    async def _check(self, request: Request, limit: int) -> None:
        """Check whether a request may pass.

        Raises:
            HTTPException: If it may not pass.
        """
        method, path = request.method, request.scope["path"]
        if objection := self.origins.objection(method, request.headers):
            raise HTTPException(403, objection)
        if not path.startswith("/proxy/"):  # the PACS may take a parameter several times
            check_given_once([name for name, _ in request.query_params.multi_items()])
        if closed := next((each for each in self.closed if each.include(method, path)), None):
            raise HTTPException(403, closed.sentence)
        if any(each.include(method, path) for each in ADMINISTRATION):
            await administrator_or_this_machine(request)
        sent = request.headers.get("content-length", "")
        if sent.isdecimal() and int(sent) > limit:
            raise HTTPException(
                413,
                f"a request to {path[:80]} must have at most {limit / 1e6:,.0f} MB; this one has "
                f"{int(sent) / 1e6:,.0f} MB. Files: see --conf upload_gb.",
            )

    def _limit(self, request: Request) -> int:
        """Maximum number of bytes in the body of a request."""
        if request.scope["path"].startswith("/proxy/"):
            return min(PROXIED_BYTES, self.upload_bytes)
        files = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self.upload_bytes if files else min(IN_MEMORY_BYTES, self.upload_bytes)


def set_boundary(settings: AppSettings) -> bool:
    """Wrap the running application; this replaces MONAI Label's rule that every web page may send requests.

    MONAI Label builds its application and middleware before it creates an app, so the middleware is rebuilt.

    Returns:
        False outside a server process, where there is no application.
    """
    application = running_application()
    if application is None:
        return False
    origins = Origins.of_this_machine(settings.allowed_hosts, settings.allowed_origins)
    _wrap(application, origins, settings)
    return True


def _wrap(application: FastAPI, origins: Origins, settings: AppSettings) -> None:
    boundary = Middleware(
        Boundary,
        origins=origins,
        closed=closed_endpoints(model_upload=settings.model_upload),
        upload_bytes=int(settings.upload_gb * 1e9),
    )
    others = Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins.allowed),
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    application.user_middleware = [
        Middleware(ResponseHeaders),
        Middleware(UnexpectedErrors),
        *([others] if origins.allowed else []),
        boundary,
    ]
    handle_known_errors(application)
    application.middleware_stack = application.build_middleware_stack()
