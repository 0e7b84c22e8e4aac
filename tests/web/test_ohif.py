"""The viewer's panel is served with what it lacks, everything else of the viewer as it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.endpoints import ohif

from lib.web import ohif as panel


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    module = ModuleType("monailabel.app")
    module.app = FastAPI()  # type: ignore[attr-defined]
    module.app.include_router(ohif.router)
    monkeypatch.setitem(sys.modules, "monailabel.app", module)
    panel._mended.cache_clear()
    return module.app


def test_the_panel_is_served_with_a_few_lines_more(server: FastAPI) -> None:
    assert panel.mend_panel()
    routes = len(server.router.routes)
    assert panel.mend_panel()  # the app was made anew
    assert len(server.router.routes) == routes
    client = TestClient(server)
    changed = []
    for file in panel._VIEWER.glob("*.bundle.*.js"):
        answer = client.get(f"/ohif/{file.name}")
        assert "javascript" in answer.headers["Content-Type"]
        if answer.content != file.read_bytes():
            changed.append(answer.content.decode())
    (script,) = changed
    assert script.count(panel._ADDED + panel._BEFORE) == 1
    assert "<!doctype html>" in client.get("/ohif/").text.lower()


@pytest.mark.parametrize("places", [0, 2])
def test_another_release_of_the_viewer_is_left_alone_and_that_is_said(
    places: int,
    server: FastAPI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "1.bundle.0.js").write_text(panel._BEFORE * places)
    monkeypatch.setattr(panel, "_VIEWER", tmp_path)
    assert not panel.mend_panel()
    assert "another OHIF panel" in caplog.text
    panel._mended.cache_clear()
