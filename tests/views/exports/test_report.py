import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.views.exports.report import Report, as_html, gather, write_report
from tests.support.chromium import chromium, skip_without_chromium

Samples = Callable[..., Path]


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    workspace = Workspace(samples("STS_008", "STS_019", "STS_025", labels=False), read_settings({}))
    workspace.check()
    return workspace


def test_a_report_holds_every_case_and_says_what_could_not_be_drawn(workspace: Workspace) -> None:
    workspace.pool.by_id["STS_025"].modalities["CT"].path.write_bytes(b"damaged")
    report = gather(workspace, lambda done, message: None)
    assert {"today", "map", "trust", "model", "check", "cases/STS_008", "cases/STS_019"} <= set(
        report.documents
    )
    assert report.pictures["cases/STS_008/planes.jpg"].startswith("data:image/jpeg;base64,")
    assert "CT" in report.documents["cases/STS_025/strip.jpg"]["detail"]


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>"])
def test_nothing_that_a_file_called_itself_can_leave_its_place_in_a_report(name: str) -> None:
    content = as_html(Report({"cases/x": {"name": name}}), title=name)
    assert "<script>alert" not in content
    assert "<img src=x" not in content
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', content)
    assert data
    assert json.loads(data[1])["documents"]["cases/x"]["name"] == name


@pytest.mark.e2e
@pytest.mark.slow
def test_a_report_opens_from_disk_without_a_server_or_a_network(workspace: Workspace, tmp_path: Path) -> None:
    skip_without_chromium()
    file = tmp_path / "report.html"
    write_report(workspace, file)
    with chromium() as window:
        page = window.page
        page.context.set_offline(True)
        page.goto(f"{file.as_uri()}#case/STS_008")
        image = page.get_by_role("img").first
        image.wait_for()
        assert page.locator("main h1").inner_text() == "Case STS_008"
        for name, title in (
            ("Map", "Map of the pool"),
            ("Cases", "All cases"),
            ("Trust", "trusted"),
            ("Model", "model"),
            ("Check", "check"),
        ):
            page.get_by_role("link", name=name, exact=True).click()
            page.locator("main h1").filter(has_text=title).wait_for()
        page.get_by_role("img", name="CT and MR_T1 of STS_019").wait_for()
        page.get_by_role("link", name="Today", exact=True).click()
        page.get_by_role("heading", name="The next case").wait_for()
        page.locator("main h1").filter(has_text="Report").wait_for()
        assert f"{workspace.folders.studies}, " in page.locator("main .reason").inner_text()
        assert "1 held back" in page.locator("main .reason").inner_text()
        page.locator("main .verdict").wait_for()
        page.get_by_text("Names of this case").click()
        page.get_by_role("button", name="Copy STS_").first.wait_for()
        assert page.get_by_role("button", name="Keep it for me").count() == 0  # a report asks no server
        assert not window.failures
        assert not window.console
        assert not window.foreign
