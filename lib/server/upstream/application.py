"""The server's FastAPI application, which MONAI Label makes before it makes an app."""

from __future__ import annotations

import sys

from fastapi import FastAPI

_SERVER = "monailabel.app"  # what uvicorn imports; a child process of MONAI Label never does


def running_application() -> FastAPI | None:
    """The application of this process; None outside a server process, where nobody is answered."""
    application = getattr(sys.modules.get(_SERVER), "app", None)
    return application if isinstance(application, FastAPI) else None
