"""The page at `/mdal/` in Chromium, on a live server with the samples: what holds for every view."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests
from pydicom.uid import generate_uid

from tests.e2e.conftest import LABELLED, SCREENSHOTS, Page
from tests.support.axe import serious_findings
from tests.support.chromium import chromium, skip_without_chromium
from tests.support.images import write_image, write_series
from tests.support.server import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VIEWS = ("today", "map", "case/STS_025", "trust", "model", "check", "cases")
NAME, PATIENT = "<script>document.title='taken over'</script>", "SECRET-7"
# Everything that a mouse can use and that is shown; then what Tab has reached of it.
REACHABLE = """() => {
    const all = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')];
    const shown = all.filter(each => !each.disabled && each.checkVisibility({ visibilityProperty: true })
        && !(each.type === 'radio' && !each.checked));
    window.unreached = new Set(shown);
    return shown.length;
}"""
FOCUSED = "() => window.unreached.delete(document.activeElement)"
UNREACHED = "() => [...window.unreached].map(each => each.outerHTML.slice(0, 120))"


def settled(page: Page, view: str) -> None:
    page.open(view)
    page.window.page.wait_for_load_state("networkidle")


def test_a_reader_takes_the_next_case_and_everyone_sees_who_is_at_what(page: Page) -> None:
    browser = page.window.page
    page.open("today")
    case = browser.locator(".card").filter(has_text="The next case").get_by_role("link").first.inner_text()
    browser.get_by_label("Your name").fill("Ann")
    browser.get_by_role("button", name="Keep it for me").click()
    browser.get_by_text(f"{case} is yours.").wait_for()
    readers = browser.locator(".card").filter(has_text="Cases held by readers")
    readers.get_by_role("cell", name="Ann").wait_for()
    assert readers.get_by_role("link").inner_text() == case
    browser.get_by_role("img", name=re.compile(case)).wait_for()
    page.screenshot("today")
    other = requests.get(f"{page.address}/mdal/api/today", params={"annotator": "Bob"}, timeout=60).json()
    assert other["next"]["id"] != case


def test_no_view_keeps_people_out_and_all_fit_small_and_large_screens(page: Page) -> None:
    browser = page.window.page
    for view in VIEWS:
        settled(page, view)
        assert serious_findings(browser) == [], view
        for width, height in ((400, 800), (1280, 900), (3840, 2160)):
            browser.set_viewport_size({"width": width, "height": height})
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), (view, width)
            page.screenshot(f"{view.partition('/')[0]}_{width}")
        browser.set_viewport_size({"width": 1280, "height": 900})


def test_all_cases_are_listed_sorted_and_filtered(page: Page) -> None:
    browser = page.window.page
    settled(page, "cases")
    rows = browser.locator("tbody tr")
    ids = rows.get_by_role("link").all_inner_texts()
    assert len(ids) == 16
    browser.get_by_role("button", name="Difference").click()
    differences = [
        float(text.replace("\u2212", "-")) for text in rows.locator("td:nth-child(5)").all_inner_texts()[:15]
    ]
    assert differences == sorted(differences)
    assert rows.get_by_role("link").last.inner_text() == "STS_019", "what is not known comes last"
    browser.get_by_role("button", name="Difference").click()
    assert browser.get_by_role("columnheader", name="Difference").get_attribute("aria-sort") == "descending"
    assert rows.get_by_role("link").last.inner_text() == "STS_019"
    browser.get_by_role("combobox", name="State").select_option("labelled")
    assert set(rows.get_by_role("link").all_inner_texts()) >= set(LABELLED)
    browser.get_by_role("combobox", name="Reader").select_option("found with the images")
    browser.get_by_role("searchbox", name="Find").fill("sts_02")
    assert rows.get_by_role("link").all_inner_texts() == ["STS_024"]
    browser.get_by_text("1 of 16 cases").wait_for()


def test_the_keyboard_alone_reaches_everything(page: Page) -> None:
    browser = page.window.page
    for view in VIEWS:
        settled(page, view)
        for _ in range(browser.evaluate(REACHABLE) + 30):  # what was not counted takes a few
            browser.keyboard.press("Tab")
            browser.evaluate(FOCUSED)
        assert browser.evaluate(UNREACHED) == [], view


def test_names_from_files_are_text_and_identify_nobody(tmp_path: Path) -> None:
    skip_without_chromium()
    studies, study = tmp_path / "studies", generate_uid()
    for modality, description in (("CT", "CT <b>soft</b>"), ("MR", "T1")):
        write_series(
            studies / "case_1" / modality,
            modality=modality,
            description=description,
            study=study,
            PatientName=NAME,
            PatientID=PATIENT,
        )
    strange = studies / "<img src=x onerror=document.title='taken over'>"
    strange.mkdir()
    (strange / "notes.txt").write_text("no image")
    with serving(studies, conf={"prefetch": 0, "scoring": "quick"}) as address, chromium() as window:
        asked: list[str] = []
        window.page.on("request", lambda request: asked.append(request.url))
        page = Page(window, address, studies)
        assert requests.get(f"{address}/mdal/api/check", timeout=60).json()["cases"][0]["case"] == "case_1"
        for view in (*VIEWS[:2], "case/case_1", *VIEWS[3:]):
            settled(page, view)
            assert "taken over" not in window.page.title()
            assert PATIENT not in window.page.content()
        assert not window.failures
        missing = requests.get(f"{address}/mdal/api/cases/{PATIENT}", timeout=60)
        assert missing.status_code == 404
    assert not [url for url in asked if PATIENT in url or "script" in url.partition("/mdal/")[2].lower()]
    log = (tmp_path / "studies.log").read_text()
    assert NAME not in log
    assert log.replace(f"/cases/{PATIENT}", "").count(PATIENT) == 0


def test_a_pool_that_is_held_back_as_a_whole_says_what_to_do(tmp_path: Path) -> None:
    skip_without_chromium()
    for name in ("CT.nii.gz", "PET.nii.gz"):
        write_image(tmp_path / "studies" / "p1" / name)  # one image for both
    with (
        serving(tmp_path / "studies", conf={"prefetch": 0, "scoring": "quick"}) as address,
        chromium() as window,
    ):
        page = Page(window, address, tmp_path)
        page.open("today")
        window.page.get_by_text("holds back all 1 cases").wait_for()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot("empty")
        settled(page, "map")
        assert not window.failures
