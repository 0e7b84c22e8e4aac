"""The viewer's panels are served with what they lack, everything else of the viewer as it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.endpoints import ohif

from lib.server.upstream import ohif as panel


@pytest.fixture
def server(become_server: Callable[[FastAPI], FastAPI]) -> FastAPI:
    application = become_server(FastAPI())
    application.include_router(ohif.router)
    return application


def test_the_panels_are_served_with_a_few_lines_changed(server: FastAPI) -> None:
    assert panel.patch_panel()
    routes = len(server.router.routes)
    assert panel.patch_panel()  # the app was made anew
    assert len(server.router.routes) == routes
    client = TestClient(server)
    changed = []
    for file in panel.VIEWER.glob("*.bundle.*.js"):
        answer = client.get(f"/ohif/{file.name}")
        assert "javascript" in answer.headers["Content-Type"]
        if answer.content != file.read_bytes():
            changed.append(answer.content.decode())
    assert len(changed) == 3
    for patch in panel._PATCHES:
        for after in patch.replacements.values():
            assert sum(script.count(after) for script in changed) == 1
    assert "<!doctype html>" in client.get("/ohif/").text.lower()


@pytest.mark.parametrize("places", [0, 2])
def test_another_release_of_the_viewer_is_left_alone_and_that_is_said(
    places: int, server: FastAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.bundle.0.js").write_text(
        "".join(before for patch in panel._PATCHES for before in patch.replacements) * places
    )
    assert not panel.patch_panel(tmp_path)
    assert [record.message for record in caplog.records] == [patch.warning for patch in panel._PATCHES]


def test_a_panel_that_is_as_expected_is_mended_whatever_the_other_is(
    server: FastAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    *whole, other = panel._PATCHES
    lines = [pair for patch in whole for pair in patch.replacements.items()]
    half = next(iter(other.replacements))
    (tmp_path / "1.bundle.0.js").write_text("".join(before for before, _ in lines) + half)
    assert not panel.patch_panel(tmp_path)
    assert [record.message for record in caplog.records] == [other.warning]
    served = TestClient(server).get("/ohif/1.bundle.0.js").text
    assert served == "".join(after for _, after in lines) + half
