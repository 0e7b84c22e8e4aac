"""The server's FastAPI application, which MONAI Label creates before it creates an app."""

from __future__ import annotations

import sys

from fastapi import FastAPI

_SERVER = "monailabel.app"  # imported by uvicorn, never by a child process of MONAI Label


def running_application() -> FastAPI | None:
    """The application of this process; None outside a server process."""
    application = getattr(sys.modules.get(_SERVER), "app", None)
    return application if isinstance(application, FastAPI) else None
