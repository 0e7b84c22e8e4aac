"""A case that a person released is served for as long as it is what that person looked at."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.quality.findings import Finding, Verdict
from lib.cases.quality.releases import Releases
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from tests.support.images import write_image


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A sound case and `flat`, an image with one value."""
    write_image(tmp_path / "studies" / "good" / "CT.nii.gz", seed=1)
    flat = write_image(tmp_path / "studies" / "flat" / "CT.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((6, 7, 8), dtype=np.int16), nib.load(flat).affine), flat)
    return tmp_path / "studies"


def opened(studies: Path, **settings: object) -> Workspace:
    """As a server or another process that starts now sees it."""
    workspace = Workspace(studies, AppSettings(workers=1, **settings))
    workspace.check()
    return workspace


def served(workspace: Workspace) -> list[str]:
    return [case.id for case in workspace.verdicts.served]


def released(studies: Path) -> Workspace:
    workspace = opened(studies)
    assert served(workspace) == ["good"]
    workspace.verdicts.release("flat", by="ada")
    return workspace


def test_a_release_is_known_to_every_process_and_outlives_the_work_folder(studies: Path) -> None:
    assert served(released(studies)) == ["flat", "good"]
    assert served(opened(studies)) == ["flat", "good"]
    (studies / ".mdal").rename(studies.parent / "lost")
    again = opened(studies)
    assert served(again) == ["flat", "good"]
    assert again.verdicts.reviews["flat"]["by"] == "ada"


def test_other_images_are_held_back_again(studies: Path) -> None:
    released(studies)
    os.utime(studies / "flat" / "CT.nii.gz", (0, 0))
    assert served(opened(studies)) == ["good"]


def test_a_release_taken_back_holds_the_case_back(studies: Path) -> None:
    workspace = released(studies)
    workspace.verdicts.hold_back("flat")
    assert served(workspace) == served(opened(studies)) == ["good"]


def test_a_case_that_a_setting_releases_is_not_held_back_on_the_page(studies: Path) -> None:
    workspace = opened(studies, released=("flat",))
    with pytest.raises(UserError, match="by the setting released"):
        workspace.verdicts.hold_back("flat")
    assert served(workspace) == ["flat", "good"]


def test_another_reason_than_the_reviewed_one_is_not_released(tmp_path: Path) -> None:
    book = Releases(tmp_path / "released.json")
    apart = Finding("outlines", "quarantined", ("CT", "PET"), "…")
    turned = Finding("outlines", "quarantined", ("PET", "CT"), "…")
    warned = Finding("extent", "warned", ("CT",), "…")
    empty = Finding("empty", "quarantined", ("CT",), "…")
    book.write("p", Verdict("quarantined", (apart,)), "files", by="")
    for findings, holds in [((turned, warned), True), ((warned,), True), ((apart, empty), False)]:
        found = book.holding({"p": Verdict("quarantined", findings)}, lambda id: "files")
        assert bool(found) == holds
    assert not book.holding({}, lambda id: "files")


def test_a_damaged_book_releases_nothing_and_is_kept(studies: Path) -> None:
    released(studies)
    (book,) = studies.glob("**/released.json")
    book.write_text('{"flat": {"by": 1}}')
    assert served(opened(studies)) == ["good"]
    assert [file.read_text() for file in book.parent.glob("released.json.damaged-*")] == [
        '{"flat": {"by": 1}}'
    ]
