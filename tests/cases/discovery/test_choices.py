"""Where a case could take several files for one modality or label, the choice is said with the case."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from lib.cases.case import Case
from lib.cases.dicomweb import studies as pacs_studies
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.dicomweb.mirror import Mirror
from lib.cases.dicomweb.studies import find_studies
from lib.cases.discovery.layouts import find_pool
from lib.cases.discovery.series_rules import RULE_PRESETS
from lib.cases.pool import Pool
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.views.documents.pool_check import pool_check
from tests.support.images import write_image, write_series
from tests.support.mixed_trees import MIXED, touch


def only_case(pool: Pool) -> Case:
    (case,) = pool.cases
    return case


@pytest.mark.parametrize(
    ("names", "taken", "why"),
    [
        (("p1/T1.nii.gz", "p1/t1w.nii.gz"), "T1.nii.gz", "first by name"),
        (("p1/PET.nii.gz", "p1/SUV.nii.gz"), "SUV.nii.gz", "its values are SUV"),
        (("p1_T1.nii.gz", "p1_T1.nrrd"), "p1_T1.nii.gz", "first by name"),
        (("p1-T1.nii.gz", "p1_T1.nii.gz"), "p1-T1.nii.gz", "first by name"),
        (("BraTS20_Training_001_t1.nii", "BraTS20_Training_001_t1n.nii"), "_t1.nii", "first by name"),
        (("sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_run-2_T1w.nii"), "sub-1_T1w.nii", "fewest entities"),
        (("sub-1/anat/sub-1_run-2_T1w.nii", "sub-1/anat/sub-1_run-1_T1w.nii"), "run-1_T1w.nii", "fewest"),
        (("p1/x/T1/a.nii.gz", "p1/x/T1w.nii.gz"), "T1/a.nii.gz", "first by name"),
    ],
)
def test_one_of_two_files_of_a_modality_is_used_and_the_case_says_which_and_why(
    names: tuple[str, ...], taken: str, why: str, tmp_path: Path
) -> None:
    for name in names:
        touch(tmp_path / name)
    pool = find_pool(tmp_path)
    case = only_case(pool)
    (source,) = case.modalities.values()
    (other,) = {tmp_path / name for name in names} - {source.path}
    (note,) = case.notes
    assert source.path.as_posix().endswith(taken)
    assert why in note
    assert other.relative_to(tmp_path).as_posix() in note
    assert [item.path for item in pool.skipped] == [other]


@pytest.mark.parametrize(
    "names",
    [
        ("p1/T1.nii.gz", "p1/seg.nii.gz", "p1/mask.nii.gz"),
        ("p1_T1.nii.gz", "p1_seg.nii.gz", "p1_mask.nii.gz"),
    ],
)
def test_a_label_that_is_left_out_is_said_with_the_case(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        touch(tmp_path / name)
    (note,) = only_case(find_pool(tmp_path)).notes
    assert note.startswith("label: one of 2 is used")
    assert names[1] in note
    assert names[2] in note


def test_a_channel_that_lies_there_twice_is_said_with_the_case(tmp_path: Path) -> None:
    MIXED["nnunet"](tmp_path)
    pool = find_pool(tmp_path)
    assert [note.split(":")[0] for note in pool.by_id["a"].notes] == ["T1", "label"]
    assert pool.by_id["a"].modalities["T1"].path == tmp_path / "imagesTr" / "a_0000.nii.gz"


@pytest.mark.parametrize(("layout", "label"), [("nnunet", "zz"), ("decathlon", "z")])
def test_a_label_that_no_image_has_the_name_of_is_named(layout: str, label: str, tmp_path: Path) -> None:
    MIXED[layout](tmp_path)
    (reason,) = (i.reason for i in find_pool(tmp_path).skipped if i.path.name == f"{label}.nii.gz")
    assert "must have the name of a case" in reason


def test_a_training_and_a_test_case_of_one_name_are_never_mixed(tmp_path: Path) -> None:
    MIXED["nnunet"](tmp_path)
    (tmp_path / "imagesTr" / "a_0001.nii.gz").unlink()
    touch(tmp_path / "imagesTs" / "a_0001.nii.gz")
    pool = find_pool(tmp_path)
    folders = {source.path.parent.name for source in pool.by_id["a"].modalities.values()}
    left_out = {item.path.name for item in pool.skipped if "would share the name" in item.reason}
    assert folders == {"imagesTr"}
    assert left_out == {"a_0000.nii.gz", "a_0001.nii.gz"}


def test_a_case_that_lies_in_two_folders_takes_its_files_from_one(tmp_path: Path) -> None:
    """The FLAIR of the other folder might lie on another grid."""
    for name in ("raw/BraTS-GLI-00001-000-t2f", "raw/BraTS-GLI-00001-000-t1n", "raw/BraTS-GLI-00001-000-seg"):
        touch(tmp_path / f"{name}.nii.gz")
    for word in ("t1n", "t1c", "t2w"):
        touch(tmp_path / "made" / f"BraTS-GLI-00001-000-{word}.nii.gz")
    pool = find_pool(tmp_path)
    case = only_case(pool)
    assert (sorted(case.modalities), case.label) == (["T1", "T1ce", "T2"], None)
    assert case.notes[0].startswith("folder: one of 2 is used, made")
    assert {item.path.parent.name for item in pool.skipped} == {"raw"}


@pytest.mark.parametrize(("second", "why"), [(3, "it has the most slices"), (4, "its UID comes first")])
def test_the_dicom_series_that_is_used_is_said_with_the_case(second: int, why: str, tmp_path: Path) -> None:
    for name, slices in (("a", 4), ("b", second)):
        write_series(
            tmp_path / "p1" / name, modality="CT", description=f"CT {name}", study="1.2", slices=slices
        )
    case = only_case(find_pool(tmp_path))
    (note,) = case.notes
    assert why in note
    assert "'CT a' in p1/a (4 slices)" in note
    assert f"'CT b' in p1/b ({second} slices)" in note


@pytest.mark.parametrize(
    ("instances", "made", "why"),
    [(9, "2020", "it has more slices"), (10, "2019", "it is newer"), (10, "2020", "its UID comes last")],
)
def test_the_series_of_a_pacs_that_is_used_is_said_with_the_case(
    instances: int, made: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listing:
        def series(self, modalities: object) -> list[FoundSeries]:
            return [
                FoundSeries("1.2", "1.2.9", "MR", "t1 mprage", 10, made="2020"),
                FoundSeries("1.2", "1.2.3", "MR", "t1 again", instances, made=made),
            ]

        def slices(self, series: FoundSeries) -> int:
            return series.instances

    monkeypatch.setattr(pacs_studies, "pacs_at", lambda url: Listing())  # no PACS runs in this test
    pool = find_studies(Mirror("http://pacs", tmp_path / "dicom", 10**9), RULE_PRESETS["usual"])
    (note,) = only_case(pool).notes
    assert why in note
    assert "'t1 mprage' (10 slices, series 1.2.9)" in note
    assert "'t1 again'" in note
    assert why in pool.skipped[0].reason


def test_the_check_warns_of_a_choice_and_a_change_of_it_calls_for_a_check(tmp_path: Path) -> None:
    for seed, name in enumerate(("T1", "t1w", "T2")):
        write_image(tmp_path / "studies" / "p1" / f"{name}.nii.gz", seed=seed, shape=(12, 12, 12))
    workspace = Workspace(tmp_path / "studies", AppSettings(work_dir=str(tmp_path / "work"), workers=1))
    workspace.check()
    (row,) = pool_check(workspace)["cases"]
    assert (row["status"], row["kinds"]) == ("warned", ["one of several files used"])
    assert "p1/T1.nii.gz" in row["findings"][0]["sentence"]
    assert [case.id for case in workspace.verdicts.served] == ["p1"]
    assert workspace.recall_check()
    fingerprint = workspace.fingerprint()
    (tmp_path / "studies" / "p1" / "t1w.nii.gz").unlink()
    assert workspace.refresh()
    assert workspace.pool.by_id["p1"].notes == ()
    assert not workspace.recall_check()
    assert workspace.fingerprint() == fingerprint  # the plan stays: its images are the same


def test_a_case_without_a_choice_has_no_note(tmp_path: Path) -> None:
    for name in ("T1", "T2", "seg"):
        touch(tmp_path / "p1" / f"{name}.nii.gz")
    write_series(tmp_path / "p2" / "CT", modality="CT", description="", study=generate_uid())
    assert only_case(find_pool(tmp_path)).notes == ()
