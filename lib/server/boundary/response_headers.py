"""Headers of every response, so that a browser neither caches nor misreads it."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "frame-ancestors 'self'; base-uri 'self'; form-action 'self'"  # for pages without their own policy
_PROGRAM = ("/static/", "/ohif/")  # paths of the viewer's files, the same for everybody


class ResponseHeaders:
    """Middleware that adds the headers; a response is not cached unless it sets `Cache-Control` itself."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the headers added."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", _POLICY)
                kept = "no-cache" if scope["path"].startswith(_PROGRAM) else "no-store"
                headers.setdefault("Cache-Control", kept)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
