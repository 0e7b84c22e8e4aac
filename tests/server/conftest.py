"""MONAI Label as a server process has it: its settings, its application and the app that it loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import pytest
from fastapi import FastAPI
from monailabel.config import settings
from monailabel.endpoints import login
from monailabel.endpoints.user import auth
from monailabel.interfaces.utils import app as loaded

from lib.server.upstream.login import patch_login

App = TypeVar("App")


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change settings of MONAI Label: `configure(AUTH_ENABLE=True)`."""

    def change(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)

    return change


@pytest.fixture
def become_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[FastAPI], FastAPI]:
    """Make this process a server process with an application, which is returned."""

    def become(application: FastAPI) -> FastAPI:
        module = ModuleType("monailabel.app")
        module.app = application
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return application

    return become


@pytest.fixture
def load_app(monkeypatch: pytest.MonkeyPatch) -> Callable[[App], App]:
    """Have MONAI Label serve an app, which is returned, as if it had loaded it with its present settings."""

    def load(app: App) -> App:
        key = f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"
        monkeypatch.setitem(loaded.apps, key, app)
        return app

    return load


@pytest.fixture
def patched_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI Label's login with our corrections, which are taken back afterwards."""
    for module, name in ((auth, "jwt"), (auth, "requests"), (login, "requests")):
        monkeypatch.setattr(module, name, getattr(module, name))
    patch_login()
