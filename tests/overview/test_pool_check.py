"""What the page says of the pool check."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lib.cases.case import CaseError
from lib.cases.judge import RULES, Finding, Verdict
from lib.checking import CHECK
from lib.overview.case_files import NotThere
from lib.overview.checkerboard import Checkerboards
from lib.overview.pool_check import KINDS, pool_check
from lib.settings import AppSettings
from lib.site import Site

THREE = ("STS_008", "STS_019", "STS_025")


@pytest.fixture
def site(samples: Callable[..., Path]) -> Site:
    return Site(samples(*THREE), AppSettings(workers=1))


def test_before_the_check_it_is_said_what_will_come(site: Site) -> None:
    assert pool_check(site)["state"] == "unchecked"
    site.plan.report(CHECK, state="running", done=0.1, message="checked 1 of 3 cases")
    told = pool_check(site)
    assert told["state"] == "running"
    assert "checked 1 of 3 cases" in told["sentences"][0]
    assert told["cases"] == []


def test_the_worst_comes_first_with_every_sentence_and_what_releases_it(site: Site) -> None:
    (site.studies / "STS_025" / "PET_SUVx100.nii.gz").unlink()
    site = Site(site.studies, AppSettings(workers=1))
    site.check()
    told = pool_check(site)
    assert told["counts"] == {"cases": 3, "ok": 1, "warned": 1, "quarantined": 1}
    worst, warned = told["cases"]
    assert (worst["case"], worst["pictured"]) == ("STS_019", ["CT", "MR_T1"])
    assert worst["release"] == "--conf released=STS_019"
    assert [finding["sentence"] for finding in worst["findings"]] == site.findings("STS_019")
    assert (warned["kinds"], warned["pictured"], warned["release"]) == (["modality missing"], [], "")
    released = Site(site.studies, AppSettings(workers=1, released=("STS_019",)))
    assert pool_check(released)["cases"][0]["released"]


def test_where_every_case_is_held_back_it_is_said_what_to_do(site: Site) -> None:
    lost = Verdict("quarantined", (Finding("empty", "quarantined", ("CT",), "Empty."),))
    site.verdicts, site.quarantined, site.served = dict.fromkeys(THREE, lost), set(THREE), ()
    assert "--conf released" in pool_check(site)["sentences"][0]


def test_of_an_image_that_cannot_be_read_nothing_is_shown(site: Site) -> None:
    lost = Finding("unreadable", "quarantined", ("PET",), "PET cannot be read.")
    apart = Finding("displaced", "warned", ("PET", "CT", "MR_T1"), "PET fits better elsewhere.")
    verdicts = {"STS_008": Verdict("quarantined", (lost, apart)), "STS_025": Verdict("quarantined", (lost,))}
    site.verdicts = verdicts
    shown = {row["case"]: row["pictured"] for row in pool_check(site)["cases"]}
    assert shown == {"STS_008": ["CT", "MR_T1"], "STS_025": []}


def test_a_setting_is_quoted_where_a_shell_would_split_it(site: Site) -> None:
    (site.studies / "STS_008").rename(site.studies / "STS 008")
    site = Site(site.studies, AppSettings(workers=1))
    site.verdicts = {"STS 008": Verdict("quarantined", (Finding("empty", "quarantined", ("CT",), "Empty."),))}
    site.quarantined = {"STS 008"}
    assert pool_check(site)["cases"][0]["release"] == "--conf 'released=STS 008'"


def test_every_finding_has_a_name() -> None:
    source = Path(RULES[0].__code__.co_filename).read_text()
    codes = {line.split('"')[1] for line in source.split("Finding(")[1:] if line.lstrip().startswith('"')}
    assert {"outlines", "displaced", "no_overlap"} <= codes <= KINDS.keys()


def test_a_checkerboard_is_a_picture_that_is_made_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    boards, case = Checkerboards(site), site.pool.by_id["STS_019"]
    path = boards.file(case, "CT", "MR_T1")
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        wide = picture.size[0]
    monkeypatch.setattr("lib.overview.checkerboard.write_checkerboard", lambda *_: pytest.fail("made again"))
    assert boards.file(case, "CT", "MR_T1") == path
    with pytest.raises(NotThere, match="two of CT, MR_T1, PET, which case STS_019 has"):
        boards.file(case, "CT", "CT")
    monkeypatch.undo()
    elsewhere = site.studies / "STS_019" / "CT.nii.gz"
    image = nib.load(elsewhere)
    affine = image.affine.copy()
    affine[0, 3] += 900.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), elsewhere)
    with Image.open(boards.file(case, "CT", "MR_T1")) as picture:  # no place in common: no tiles
        assert picture.size[0] < wide


def test_a_checkerboard_of_a_damaged_file_is_refused_with_its_sentence(site: Site) -> None:
    file = site.studies / "STS_008" / "CT.nii.gz"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(CaseError, match="ends early or is damaged"):
        Checkerboards(site).file(site.pool.by_id["STS_008"], "CT", "PET")
    assert not list((site.work / "checkerboards").glob("*"))
    shutil.rmtree(site.studies / "STS_008")
    with pytest.raises(CaseError, match="must be there and readable"):
        Checkerboards(site).file(site.pool.by_id["STS_008"], "CT", "PET")
