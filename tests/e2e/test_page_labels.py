"""Two readers submit the same case with Slicer's own client; the page names both, and takes one back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from playwright.sync_api import expect

from tests.conftest import SAMPLES
from tests.e2e.conftest import Page
from tests.support.server import slicer_client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CASE = "STS_024"  # its contour beside the images is its label before and after the test


def test_both_readers_are_told_and_an_earlier_label_is_made_current_again(page: Page, tmp_path: Path) -> None:
    tab, contour = page.window.page, SAMPLES / CASE / "GTV.nii.gz"
    image = nib.load(contour)
    array = np.asarray(image.dataobj).copy()
    array[..., ::2] = 0
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(array, image.affine), other)
    segments = {"label_info": [{"name": "lesion", "idx": 1}]}
    ann, bob = (slicer_client(page.address, tmpdir=str(tmp_path), client_id=name) for name in ("ann", "bob"))
    ann.infer("ciml", CASE, {})
    first = ann.save_label(CASE, str(contour), params=dict(segments))
    assert (first["version"], first["warnings"]) == (1, [])
    second = bob.save_label(CASE, str(other), params=dict(segments))
    assert second["version"] == 2
    (told,) = second["warnings"]
    assert told.startswith(f"ann labelled {CASE} before on ")
    assert told.endswith("That label stays as version 1; yours is version 2 and the current one.")
    assert Path(ann.download_label(CASE, "final")).read_bytes() == other.read_bytes()
    samples = [ann.next_sample("random", {}) for _ in range(2)]
    told = samples[0]["mdal"]["warnings"][0]
    assert told == f"bob submitted another label of {CASE}: it is current, and yours stays as version 1."
    assert "submitted another label" not in str(samples[1])  # told once
    page.open("today")
    tab.get_by_label("Your name").fill("ann")
    for sample in samples:
        tab.get_by_role("button", name=f"Give {sample['id']} back").click()
        expect(tab.get_by_role("button", name=f"Give {sample['id']} back")).to_have_count(0)
    page.open(f"case/{CASE}")
    versions = tab.get_by_role("region", name="Versions of the label")
    expect(versions.get_by_role("row").nth(1)).to_contain_text("bob")
    expect(versions.get_by_role("row").nth(1)).not_to_contain_text("model version")  # bob was shown none
    expect(versions.get_by_role("row").nth(2)).to_contain_text("ann")
    expect(versions.get_by_role("row").nth(2)).to_contain_text("model version 1")
    events = tab.get_by_text("Labelled by ann, version 1")
    expect(events).to_be_visible()
    expect(tab.get_by_text("Labelled by bob, version 2")).to_be_visible()
    versions.scroll_into_view_if_needed()
    page.screenshot("label_versions")
    versions.get_by_role("button", name="Make version 1 current").click()
    expect(versions.get_by_role("row").nth(1)).to_contain_text("made current again, as version 1")
    expect(tab.get_by_text("Version 1 was made current again by ann, as version 3")).to_be_visible()
    expect(versions.get_by_role("row").nth(1)).to_contain_text("current")
    assert Path(ann.download_label(CASE, "final")).read_bytes() == contour.read_bytes()
    page.screenshot("label_versions_restored")
    answer = requests.delete(f"{page.address}/datastore/label?id={CASE}&tag=final", timeout=60)
    assert answer.status_code == 200
    assert (
        requests.get(f"{page.address}/datastore/label?label={CASE}&tag=final", timeout=60).status_code == 200
    )
