"""One server for every test of the page: real patients, a plan, a network that needs no training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from tests.support.chromium import Window, chromium, skip_without_chromium
from tests.support.networks import outline_uptake
from tests.support.server import ROOT, serving, wait_for_plan

SCREENSHOTS = ROOT / "build" / "screenshots"
LABELLED = ("STS_002", "STS_024", "STS_051")  # the others' contours are hidden from the server
CONF = {"budget": 8, "scoring": "quick", "device": "cpu", "prefetch": 0}


@dataclass
class Page:
    """The page in a browser, and the server behind it."""

    window: Window
    address: str
    studies: Path

    def open(self, view: str) -> None:
        """Show a view from the start; wait until it is there."""
        page = self.window.page
        page.goto("about:blank")
        page.goto(f"{self.address}/mdal/#{view}")
        page.locator("main h1").wait_for()

    def screenshot(self, name: str) -> None:
        """Keep a picture of the whole page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.window.page.screenshot(path=SCREENSHOTS / f"page_{name}.png", full_page=True)


@pytest.fixture(scope="session")
def planned_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and studies of a server with a plan and a model."""
    skip_without_chromium()
    studies = tmp_path_factory.mktemp("page") / "sts"
    shutil.copytree(ROOT / "samples" / "sts", studies)
    for contour in studies.glob("*/GTV.nii.gz"):
        if contour.parent.name not in LABELLED:
            contour.unlink()
    workspace = Workspace(studies, read_settings({key: str(value) for key, value in CONF.items()}))
    outline_uptake(workspace)
    with serving(studies, conf=CONF) as address:
        assert wait_for_plan(address)["state"] == "done"
        yield address, studies


@pytest.fixture
def page(planned_server: tuple[str, Path]) -> Iterator[Page]:
    """The page in a browser of its own; nothing may have gone wrong on it."""
    with chromium(width=1280, height=900) as window:
        yield Page(window, *planned_server)
        assert not window.foreign
        assert not window.failures
        assert not window.console
