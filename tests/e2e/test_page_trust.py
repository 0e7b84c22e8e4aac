"""Is the plan to be trusted, is the model getting better, what does the check say: in Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from lib.ciml.checkpoint import load
from lib.ciml.model_versions import Models
from tests.e2e.conftest import Page
from tests.support.server import slicer_client, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def models(page: Page) -> Iterator[Models]:
    """The server's model in two more versions; they are gone again afterwards."""
    models = Models(page.studies / ".mdal" / "model")
    network = load(models.current())[0]
    learned = ["STS_002", "STS_024"]
    for dice, before in ((0.61, 0.55), (0.58, 0.58)):
        models.publish(
            network,
            {
                "created": datetime.now(UTC).isoformat(),
                "dice": dice,
                "previous_dice": before,
                "previous_version": 1,
                "dice_by_region": {"lesion": dice},
                "dice_by_case": {"STS_051": dice},
                "trained_on": learned,
                "validated_on": ["STS_051"],
            },
        )
    yield models
    models.choose(0)
    for version in (2, 3):
        models.file(version).unlink()


def told_to_have_expired(page: Page) -> bool:
    page.open("trust")
    verdict = page.window.page.locator("main .verdict").inner_text()
    return "Usable with care. This plan has expired: files of the studies changed" in verdict


def test_the_plan_is_judged_and_an_expired_one_says_so(page: Page) -> None:
    page.open("trust")
    shown = page.window.page.locator("main")
    lights = shown.locator("table .light").all_text_contents()
    assert len(lights) >= 10
    assert {text.split()[-1] for text in lights} <= {"passed", "failed", "known"}
    assert shown.locator("svg[role=img]").count() >= 9  # coverage, 3 pairs, 5 properties
    assert shown.locator("svg[role=img] circle").count() > 100
    assert "Do not rely on it. The pool was scored quickly" in shown.locator(".verdict").inner_text()
    page.screenshot("trust")
    image = page.studies / "STS_002" / "CT.nii.gz"
    before = image.stat()
    try:
        os.utime(image)
        wait_until(lambda: told_to_have_expired(page), seconds=120, what="a look at the files")
        assert "Score the pool: restart the server" in shown.inner_text()
    finally:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_version_chosen_by_a_click_answers_the_next_inference(page: Page, models: Models) -> None:
    page.open("model")
    shown = page.window.page.locator("main")
    assert "Version 3 answers. It is the newest." in shown.inner_text()
    assert shown.locator("svg[role=img]").count() == 1
    assert "What more labels bring is not known yet." in shown.inner_text()
    page.screenshot("model")
    shown.get_by_role("button", name="Let version 2 answer").click()
    shown.get_by_text("Version 2 answers from now on, for every reader.").wait_for()
    assert "Version 2 answers. It was chosen on this page." in shown.inner_text()
    client = slicer_client(page.address)
    assert client.infer("ciml", "STS_002", {})[1]["ciml"]["version"] == 2
    assert shown.get_by_role("link", name="STS_051").get_attribute("href") == "#case/STS_051"
    shown.get_by_role("button", name="Let the newest answer again").click()
    shown.get_by_text("Version 3 answers. It is the newest.").wait_for()
    assert client.infer("ciml", "STS_002", {})[1]["ciml"]["version"] == 3


def test_the_check_shows_the_misregistered_patient(page: Page) -> None:
    page.open("check")
    shown = page.window.page.locator("main")
    assert "16 cases: 12 without findings, 3 warned" in shown.locator(".headline").inner_text()
    patient = shown.locator("article").filter(has_text="STS_019")
    assert "do not lie on each other" in patient.inner_text()
    picture = patient.locator("img")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 600
    page.screenshot("check")
    shown.get_by_label("Show").select_option("displaced")
    assert shown.locator("article").count() == 1


def test_a_case_is_released_by_a_click_and_held_back_again(page: Page) -> None:
    page.open("check")
    shown = page.window.page.locator("main")
    client = slicer_client(page.address)
    with pytest.raises(Exception, match=r"Status: 404.*quarantined"):
        client.infer("ciml", "STS_019", {})
    shown.get_by_role("button", name="Release STS_019").click()
    shown.get_by_text("STS_019 is released and served.").wait_for()
    assert shown.get_by_text("quarantined, released by").count() == 1
    assert client.infer("ciml", "STS_019", {})[1]["ciml"]["version"] == 1
    page.screenshot("check_released")
    shown.get_by_role("button", name="Hold STS_019 back again").click()
    shown.get_by_text("STS_019 is held back again.").wait_for()
    with pytest.raises(Exception, match=r"Status: 404.*quarantined"):
        client.infer("ciml", "STS_019", {})
