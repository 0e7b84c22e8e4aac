"""What the page says of the pool check."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from lib.cases.quality.findings import Finding, Verdict
from lib.cases.quality.rules import RULES
from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.views.documents.case_files import NotThere
from lib.views.documents.pool_check import FINDING_NAMES, pool_check
from lib.views.pictures.checkerboard import Checkerboards

THREE = ("STS_008", "STS_019", "STS_025")


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    return Workspace(samples(*THREE), AppSettings(workers=1))


def test_before_the_check_it_is_said_what_will_come(workspace: Workspace) -> None:
    assert pool_check(workspace)["state"] == "unchecked"
    workspace.plan.report(CHECK_JOB, state="running", done=0.1, message="checked 1 of 3 cases")
    told = pool_check(workspace)
    assert told["state"] == "running"
    assert "checked 1 of 3 cases" in told["sentences"][0]
    assert told["cases"] == []


def test_the_worst_comes_first_with_every_sentence_and_what_releases_it(workspace: Workspace) -> None:
    (workspace.folders.studies / "STS_025" / "PET_SUVx100.nii.gz").unlink()
    workspace = Workspace(workspace.folders.studies, AppSettings(workers=1))
    workspace.check()
    told = pool_check(workspace)
    assert told["counts"] == {"cases": 3, "ok": 1, "warned": 1, "quarantined": 1}
    worst, warned = told["cases"]
    assert (worst["case"], worst["pictured"]) == ("STS_019", ["CT", "MR_T1"])
    assert worst["release"] == "--conf released=STS_019"
    assert [finding["sentence"] for finding in worst["findings"]] == workspace.verdicts.findings("STS_019")
    assert (warned["kinds"], warned["pictured"], warned["release"]) == (["modality missing"], [], "")
    released = Workspace(workspace.folders.studies, AppSettings(workers=1, released=("STS_019",)))
    assert pool_check(released)["cases"][0]["released"]


def test_where_every_case_is_held_back_it_is_said_what_to_do(workspace: Workspace) -> None:
    lost = Verdict("quarantined", (Finding("empty", "quarantined", ("CT",), "Empty."),))
    workspace.verdicts.by_case, workspace.verdicts.quarantined, workspace.verdicts.served = (
        dict.fromkeys(THREE, lost),
        set(THREE),
        (),
    )
    assert "--conf released" in pool_check(workspace)["sentences"][0]


def test_of_an_image_that_cannot_be_read_nothing_is_shown(workspace: Workspace) -> None:
    lost = Finding("unreadable", "quarantined", ("PET",), "PET cannot be read.")
    apart = Finding("displaced", "warned", ("PET", "CT", "MR_T1"), "PET fits better elsewhere.")
    verdicts = {"STS_008": Verdict("quarantined", (lost, apart)), "STS_025": Verdict("quarantined", (lost,))}
    workspace.verdicts.by_case = verdicts
    shown = {row["case"]: row["pictured"] for row in pool_check(workspace)["cases"]}
    assert shown == {"STS_008": ["CT", "MR_T1"], "STS_025": []}


def test_a_setting_is_quoted_where_a_shell_would_split_it(workspace: Workspace) -> None:
    (workspace.folders.studies / "STS_008").rename(workspace.folders.studies / "STS 008")
    workspace = Workspace(workspace.folders.studies, AppSettings(workers=1))
    workspace.verdicts.by_case = {
        "STS 008": Verdict("quarantined", (Finding("empty", "quarantined", ("CT",), "Empty."),))
    }
    workspace.verdicts.quarantined = {"STS 008"}
    assert pool_check(workspace)["cases"][0]["release"] == "--conf 'released=STS 008'"


def test_every_finding_has_a_name() -> None:
    files = {Path(rule.__code__.co_filename) for rule in RULES}
    source = "".join(file.read_text() for file in files)
    codes = {line.split('"')[1] for line in source.split("Finding(")[1:] if line.lstrip().startswith('"')}
    assert {"outlines", "displaced", "no_overlap", "truncated"} <= codes <= FINDING_NAMES.keys()


def test_a_checkerboard_is_a_picture_that_is_made_once(workspace: Workspace) -> None:
    boards, case = Checkerboards(workspace), workspace.pool.by_id["STS_019"]
    path = boards.file(case, "CT", "MR_T1")
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        wide = picture.size[0]
    made = path.stat().st_ino  # another file would have another number
    assert boards.file(case, "CT", "MR_T1") == path
    assert path.stat().st_ino == made
    with pytest.raises(NotThere, match="two of CT, MR_T1, PET, which case STS_019 has"):
        boards.file(case, "CT", "CT")
    elsewhere = workspace.folders.studies / "STS_019" / "CT.nii.gz"
    image = nib.load(elsewhere)
    affine = image.affine.copy()
    affine[0, 3] += 900.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), elsewhere)
    with Image.open(boards.file(case, "CT", "MR_T1")) as picture:  # no place in common: no tiles
        assert picture.size[0] < wide


def test_a_checkerboard_of_a_damaged_file_is_refused_with_its_sentence(workspace: Workspace) -> None:
    file = workspace.folders.studies / "STS_008" / "CT.nii.gz"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(UserError, match="ends early or is damaged"):
        Checkerboards(workspace).file(workspace.pool.by_id["STS_008"], "CT", "PET")
    assert not list((workspace.folders.work / "checkerboards").glob("*"))
    shutil.rmtree(workspace.folders.studies / "STS_008")
    with pytest.raises(UserError, match="must be there and readable"):
        Checkerboards(workspace).file(workspace.pool.by_id["STS_008"], "CT", "PET")
