"""The map of the pool in Chromium: a dot a case, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
import requests

from tests.e2e.conftest import LABELLED, Page

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_case_is_found_by_mouse_keyboard_and_name_and_opened(page: Page) -> None:
    page.open("map")
    window = page.window.page
    document = requests.get(f"{page.address}/mdal/api/map", timeout=60).json()
    ids, chosen = document["id"], document["chosen"]
    canvas, card, spoken = window.locator("canvas"), window.locator(".map-card"), window.locator(".spoken")

    rows = window.locator("tbody tr", has=window.locator("a"))
    assert rows.locator("a").all_inner_texts() == ids[:chosen]
    labelled = rows.filter(has_text=re.compile(r"(?<!not )labelled"))
    labelled.first.wait_for()
    assert set(labelled.locator("a").all_inner_texts()) == set(LABELLED) & set(ids[:chosen])

    canvas.focus()
    window.keyboard.press("ArrowRight")
    window.keyboard.press("ArrowRight")
    assert card.locator("strong").inner_text() == ids[1]
    assert f"{ids[1]}; 2 of {len(ids)} in random order, within the budget; MD" in spoken.inner_text()
    strip = card.locator("img")
    strip.wait_for()
    shape = strip.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    assert shape[0] > 1.5 * shape[1]  # every modality side by side
    assert card.locator("figcaption span").all_inner_texts() == document["modalities"]
    assert card.locator("tbody tr").count() == len(document["pairs"])
    page.screenshot("map")
    window.keyboard.press("ArrowLeft")
    mark = window.locator(".map-mark").bounding_box()
    assert mark is not None
    window.keyboard.press("Escape")
    assert card.is_hidden()

    window.get_by_label("Find a case").fill(ids[5].lower())
    window.get_by_role("button", name="Show it").click()
    assert card.locator("strong").inner_text() == ids[5]
    window.get_by_label("Find a case").fill("nobody")
    window.get_by_role("button", name="Show it").click()
    assert "No case" in window.locator("form [role=alert]").inner_text()

    window.get_by_role("button", name="Zoom in").click()
    window.get_by_role("button", name="Whole map").click()
    x, y = mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2
    window.mouse.move(x, y)
    assert card.locator("strong").inner_text() == ids[0]
    window.mouse.wheel(0, -300)
    assert card.locator("strong").inner_text() == ids[0]  # the point under the pointer stays there
    window.mouse.click(x, y)
    window.wait_for_url(f"**/#case/{ids[0]}")


def test_the_map_comes_by_itself_when_there_is_a_plan_and_says_when_it_has_expired(page: Page) -> None:
    window, api = page.window.page, f"{page.address}/mdal/api"
    states = requests.get(f"{api}/states", timeout=60).json()
    states["expired"] = ["This plan has expired. Score the pool again."]
    window.route("**/api/map", lambda route: route.fulfill(json={"plan": None, "sentence": "No plan yet."}))
    window.route("**/api/states", lambda route: route.fulfill(json=states))
    page.open("map")
    assert window.locator("main p").all_inner_texts() == ["No plan yet."]
    assert window.locator("canvas").count() == 0
    window.unroute("**/api/map")
    window.locator("canvas").wait_for()
    window.get_by_text("This plan has expired.").wait_for()
