"""A case on the page, in Chromium with WebGL on the CPU: the viewer, its overlays, what is said."""

from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Route, expect

from lib.cases.case import Source
from lib.cases.formats.image import Grid, Volume, read_volume, resample, write_nifti
from tests.e2e.conftest import Page
from tests.support.server import ROOT, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SAMPLE = ROOT / "samples" / "sts" / "STS_002"
VOXEL_MM = 3.3  # the largest of the samples' voxel sizes
MARKUP = "<img src=x onerror=alert(1)>"
OUTLINE = np.array((86, 180, 233))  # of the first structure
SECOND = np.array((213, 94, 0))


def tilted(grid: Grid) -> Grid:
    """A coarser grid over the same place, its voxels tilted by 20 degrees."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    size = np.array(grid.shape[::-1])
    affine = turn @ np.diag([4.0, 5.0, 6.0, 1.0])
    steps = np.ceil(1.3 * size * grid.spacing[::-1] / (4.0, 5.0, 6.0)).astype(int)
    middle = grid.affine @ [*(size - 1) / 2.0, 1.0]
    affine[:3, 3] += middle[:3] - (affine @ [*(steps - 1) / 2.0, 1.0])[:3]
    return Grid((int(steps[2]), int(steps[1]), int(steps[0])), affine)


def wait_until_loaded(page: Page) -> None:
    page.window.page.get_by_role("combobox", name="Outline").wait_for()
    expect(page.window.page.locator(".legends [role=status]")).not_to_contain_text("Loading")


def places(page: Page) -> np.ndarray:
    """(M, 3) RAS mm of the cross in every image, as NiiVue has it."""
    read = "document.querySelector('.viewer').screens.map(screen => screen.place)"
    return np.array(page.window.page.evaluate(read))


def value_at(page: Page, number: int) -> float:
    return float(page.window.page.evaluate(f"document.querySelector('.viewer').screens[{number}].value"))


def pixels(canvas: Locator) -> np.ndarray:
    """(H, W, 3) of what is drawn."""
    return np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")).astype(int)


def outlined(picture: np.ndarray, colour: np.ndarray = OUTLINE) -> int:
    """Pixels in about the colour of an outline."""
    return int((np.abs(picture - colour).sum(axis=2) < 60).sum())


def choose(page: Page, select: str, option: str) -> None:
    """Choose what is drawn over the images, and wait until it is."""
    page.window.page.get_by_role("combobox", name=select).select_option(label=option)
    expect(page.window.page.locator(".legends [role=status]")).not_to_contain_text("Loading")


def test_every_modality_is_shown_at_the_same_place_whatever_its_grid(page: Page, tmp_path: Path) -> None:
    tab = page.window.page
    stored = read_volume(Source(SAMPLE / "PET_SUVx100.nii.gz", scale=0.01))
    pet = resample(Volume(stored.array, stored.grid), tilted(stored.grid))
    write_nifti(pet, tmp_path / "pet.nii.gz", durable=False)
    tab.route("**/images/PET.nii.gz", lambda route: route.fulfill(path=tmp_path / "pet.nii.gz"))
    page.open("case/STS_002")
    wait_until_loaded(page)
    names = tab.locator(".screen strong").all_text_contents()
    assert sorted(names) == ["CT", "MR_T1", "PET"]
    canvases = tab.locator(".screen canvas")
    seen = [places(page)]

    def moved() -> np.ndarray:
        tab.wait_for_timeout(300)
        seen.append(places(page))
        assert np.abs(seen[-1] - seen[-1][0]).max() < VOXEL_MM / 2, seen[-1]
        assert np.abs(seen[-1] - seen[-2]).max() > 1.0, "nothing moved"
        return seen[-1][0]

    for number in range(3):
        box = canvases.nth(number).bounding_box()
        assert box is not None
        canvases.nth(number).click(
            position={"x": box["width"] * 0.3, "y": box["height"] * (0.2 + 0.05 * number)}
        )
        moved()
        tab.mouse.wheel(0, 120)
        moved()
        tab.keyboard.press("ArrowUp")
        moved()
    tab.get_by_role("button", name="Slice up").click()
    moved()
    tab.get_by_role("button", name="To the lesion").click()
    expect(tab.locator(".legends [role=status]")).to_have_text("")
    here = moved()
    ct = nib.load(SAMPLE / "CT.nii.gz")
    i, j, k = (np.linalg.inv(ct.affine) @ [*here, 1.0])[:3].round().astype(int)
    assert value_at(page, names.index("CT")) == pytest.approx(ct.get_fdata()[i, j, k])
    x, y, z = (np.linalg.inv(pet.grid.affine) @ [*here, 1.0])[:3].round().astype(int)
    assert value_at(page, names.index("PET")) == pytest.approx(pet.array[z, y, x], abs=1e-3)
    page.screenshot("case")
    tab.evaluate("window.kept = [...document.querySelectorAll('canvas')]")
    tab.goto(f"{page.address}/mdal/#today")
    lost = "window.kept.map(canvas => canvas.getContext('webgl2').isContextLost())"
    wait_until(lambda: tab.evaluate(lost) == [True] * 3, seconds=120, what="the browser's memory")


def test_presets_and_overlays_change_what_is_drawn(page: Page) -> None:
    tab = page.window.page
    page.open("case/STS_002")
    wait_until_loaded(page)
    canvases, names = tab.locator(".screen canvas"), tab.locator(".screen strong").all_text_contents()
    ct, pet = canvases.nth(names.index("CT")), canvases.nth(names.index("PET"))
    for canvas, preset in (
        (ct, "bone"),
        (pet, "SUV 0 to 15"),
        (canvases.nth(names.index("MR_T1")), "narrow"),
    ):
        before = pixels(canvas)
        canvas.locator("xpath=ancestor::figure").get_by_role("combobox").select_option(preset)
        assert np.abs(pixels(canvas) - before).mean() > 1.0, preset
    box = ct.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + 60, box["y"] + 60)
    tab.mouse.down(button="right")
    tab.mouse.move(box["x"] + 100, box["y"] + 90, steps=4)
    tab.mouse.up(button="right")
    expect(tab.locator(".screen select").nth(names.index("CT"))).to_have_value("by hand")
    tab.get_by_role("button", name="To the lesion").click()
    assert outlined(pixels(ct)) > 100, "a reader's label is shown at once"
    assert outlined(pixels(pet)) > 100
    about = json.loads(tab.evaluate("fetch('api/cases/STS_002').then(answer => answer.text())"))
    before = pixels(ct)
    choose(page, "Colour", "MR_T1/CT")
    scale = next(known for known in about["differences"] if known["pair"] == "MR_T1/CT")
    assert f"{scale['high']:.2f} deviations" in tab.locator(".legend").inner_text()
    assert np.abs(pixels(ct) - before).mean() > 1.0
    assert outlined(pixels(ct)) > 100, "the label stays above the map"
    page.screenshot("case_difference")
    choose(page, "Outline", "none")
    assert outlined(pixels(ct)) == 0
    before = pixels(ct)
    choose(page, "Colour", "where it is unsure")
    expect(tab.locator(".legends [role=status]")).to_contain_text("a coin toss")
    assert "+0.69 nats" in tab.locator(".legend").inner_text()
    assert np.abs(pixels(ct) - before).mean() > 1.0
    page.screenshot("case_uncertainty")
    choose(page, "Colour", "none")
    tab.locator(".legend svg").wait_for(state="detached")
    before = pixels(ct)
    tab.get_by_role("checkbox", name="Three planes").check()
    assert np.abs(pixels(ct) - before).mean() > 1.0


def test_each_structure_has_its_colour_name_volume_and_switch(page: Page, tmp_path: Path) -> None:
    tab = page.window.page
    gtv = read_volume(Source(SAMPLE / "GTV.nii.gz"))
    halves = (gtv.array > 0).astype(np.uint8)
    halves[:, :, int(np.argwhere(halves)[:, 2].mean()) :] *= 2
    write_nifti(Volume(halves, gtv.grid), tmp_path / "label.nii.gz", durable=False)
    names = [
        {"name": MARKUP, "value": 1, "colour": "#56b4e9"},
        {"name": "oedema", "value": 2, "colour": "#d55e00"},
        {"name": "absent", "value": 3, "colour": "#f0e442"},
    ]
    tab.route(
        "**/api/cases/STS_002",
        lambda route: route.fulfill(json=route.fetch().json() | {"structures": names}),
    )
    tab.route("**/labels/final.nii.gz", lambda route: route.fulfill(path=tmp_path / "label.nii.gz"))
    page.open("case/STS_002")
    wait_until_loaded(page)
    ml = np.bincount(halves.ravel())[1:] * np.prod(gtv.grid.spacing) / 1000.0
    switches = tab.locator(".legend label")
    expect(switches).to_have_text([f"{MARKUP}, {ml[0]:.1f} ml", f"oedema, {ml[1]:.1f} ml"])
    ct = tab.locator(".screen canvas").first
    assert min(outlined(pixels(ct)), outlined(pixels(ct), SECOND)) > 50
    page.screenshot("case_structures")
    tab.get_by_role("checkbox", name="oedema").uncheck()
    expect(tab.locator(".legends [role=status]")).not_to_contain_text("Loading")
    assert outlined(pixels(ct)) > 50
    assert outlined(pixels(ct), SECOND) == 0
    expect(switches).to_have_text([f"{MARKUP}, {ml[0]:.1f} ml", f"oedema, {ml[1]:.1f} ml"])
    assert tab.locator("img[src=x]").count() == 0


def test_what_comes_from_files_and_people_is_text(page: Page) -> None:
    tab = page.window.page

    def marked_up(route: Route) -> None:
        about = route.fetch().json()
        about["history"][0] |= {"kind": "offered", "who": MARKUP}
        about |= {"reason": MARKUP, "findings": [{"modalities": ["CT"], "sentence": MARKUP}]}
        route.fulfill(json=about)

    tab.route("**/api/cases/STS_008", marked_up)
    page.open("case/STS_008")
    assert tab.get_by_text(MARKUP).count() >= 4
    assert tab.locator("img[src=x]").count() == 0
    tab.get_by_text("Beyond the budget").or_(tab.get_by_text("Within the budget")).wait_for()


def test_without_webgl_a_still_picture_is_shown(page: Page) -> None:
    tab = page.window.page
    tab.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.open("case/STS_008")
    tab.get_by_text("This browser has no WebGL2").wait_for()
    tab.get_by_text("The planes go through the point where the modalities differ most.").wait_for()
    picture = tab.get_by_role("img", name="MR_T1")
    wait_until(lambda: picture.evaluate("image => image.naturalWidth") > 500, seconds=120, what="the picture")


def test_an_unknown_case_says_so(page: Page) -> None:
    page.open("case/%3Cscript%3E")
    assert "an image must be the id of a case" in page.window.page.get_by_role("alert").inner_text()
    assert all("404" in line for line in page.window.console)
    page.window.console.clear()
