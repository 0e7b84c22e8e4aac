"""Cases in folders at any depth: their ids are unique, and sessions of one patient stay one patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lib.cases.discovery.layouts import find_pool
from lib.cases.discovery.places import MOST_SESSIONS, ids_of, patients_of
from tests.support.images import write_series
from tests.support.mixed_trees import touch


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (("HGG/Brats18_A/T1", "HGG/Brats18_B/T1", "LGG/Brats18_C/T1"), {f"Brats18_{x}": None for x in "ABC"}),
        (("p1/s1/T1", "p1/s2/T1", "p2/s1/T1"), {"p1_s1": "p1", "p1_s2": "p1", "p2_s1": "p2"}),
        (("p1/2020-01-31/T1", "p1/2021-01-31/T1"), {"p1_2020-01-31": "p1", "p1_2021-01-31": "p1"}),
        (("p1/mri/a/T1", "p1/mri/b/T1", "p2/mri/c/T1"), {"a": "p1", "b": "p1", "c": "p2"}),
        (("p1/T1", "p1/later/T1", "p2/T1"), {"p1": "p1", "later": "p1", "p2": "p2"}),
        (("train/p1/T1", "test/p2/T1"), {"p1": None, "p2": None}),
        (("siteA/p1/T1", "siteB/p1/T1"), {"siteA_p1": "p1", "siteB_p1": "p1"}),
        (("p1/p1_CT", "p2/P2-CT"), {"p1": None, "p2": None}),
        (("p1/ses-1/p1_ses-1_T1", "p1/ses-2/p1_T1"), {"p1_ses-1": "p1", "p1_ses-2": "p1"}),
    ],
)
def test_a_folder_of_modalities_is_a_case_at_any_depth(
    names: tuple[str, ...], patients: Mapping[str, str | None], tmp_path: Path
) -> None:
    for name in names:
        touch(tmp_path / f"{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert pool.layout == "folder"
    assert {case.id: case.patient for case in pool.cases} == {
        id: patient or id for id, patient in patients.items()
    }
    assert pool.skipped == ()


@pytest.mark.parametrize(
    "names",
    [
        ("p1/study/T1/scan.nii.gz", "p1/study/FLAIR/9.nii.gz"),
        ("p1/study/T1/T1.nii.gz", "p1/study/FLAIR/p1_FLAIR.nii.gz"),
        ("p1/study/MR/T1.nii.gz", "p1/study/MR/FLAIR.nii.gz"),
        ("p1/study/MR/T1.nii.gz", "p1/study/FLAIR.nii.gz"),
        ("data/p1/study/T1/a.nii.gz", "data/p1/study/FLAIR/b.nii.gz"),
        ("p1/study/T1/a.nii.gz", "p1/study/T1/seg.nii.gz", "p1/study/FLAIR/b.nii.gz"),
    ],
)
def test_folders_of_series_are_one_case(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        touch(tmp_path / name)
    (case,) = find_pool(tmp_path).cases
    assert (sorted(case.modalities), case.patient) == (["FLAIR", "T1"], "p1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("p1/s/T1/FLAIR.nii.gz", "the folder says T1, the name FLAIR"),
        ("p1/s/T1/other.nii.gz", "must hold one image"),
    ],
)
def test_an_image_that_contradicts_its_folder_is_named(name: str, reason: str, tmp_path: Path) -> None:
    touch(tmp_path / name)
    touch(tmp_path / "p1" / "s" / "T1" / "T1.nii.gz")
    pool = find_pool(tmp_path)
    assert list(pool.cases[0].modalities) == ["T1"]
    assert [(item.path, reason in item.reason) for item in pool.skipped] == [(tmp_path / name, True)]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("CT/p1.nii.gz", "PET/p1.nii.gz", "CT/p2.nii.gz"), {"p1": ["CT", "PET"], "p2": ["CT"]}),
        (("CT/p1_CT.nii.gz", "PET/p1_PET.nii.gz"), {"p1": ["CT", "PET"]}),
        (("s/CT/p1.nii.gz", "s/CT/p2.nii.gz", "s/PET/p1.nii.gz"), {"p1": ["CT", "PET"], "p2": ["CT"]}),
        (("data/p1_CT.nii.gz", "data/p2_CT.nii.gz", "data/p1_seg.nii.gz"), {"p1": ["CT"], "p2": ["CT"]}),
    ],
)
def test_files_of_many_cases_in_one_folder_are_found_by_their_names(
    names: tuple[str, ...], ids: Mapping[str, list[str]], tmp_path: Path
) -> None:
    for name in names:
        touch(tmp_path / name)
    pool = find_pool(tmp_path, layout="flat")
    assert {case.id: sorted(case.modalities) for case in pool.cases} == ids
    assert find_pool(tmp_path).by_id == pool.by_id


def test_files_of_one_name_in_two_folders_are_never_one_case(tmp_path: Path) -> None:
    touch(tmp_path / "anna" / "scan_T1.nii.gz")
    touch(tmp_path / "bert" / "scan_T2.nii.gz")
    assert {case.id: list(case.modalities) for case in find_pool(tmp_path).cases} == {
        "anna_scan": ["T1"],
        "bert_scan": ["T2"],
    }


def test_sessions_in_the_names_of_one_folder_are_one_patient(tmp_path: Path) -> None:
    for name in ("p1_v1_T1", "p1_v2_T1"):
        touch(tmp_path / "p1" / f"{name}.nii.gz")
    assert {case.id: case.patient for case in find_pool(tmp_path).cases} == {"p1_v1": "p1", "p1_v2": "p1"}


def test_a_folder_whose_name_goes_on_after_that_of_its_files_is_a_case(tmp_path: Path) -> None:
    folder = tmp_path / "UCSF-PDGM-0004_nifti"
    for word in ("FLAIR", "T1", "T1_bias", "brain_segmentation", "tumor_segmentation"):
        touch(folder / f"UCSF-PDGM-0004_{word}.nii.gz")
    pool = find_pool(tmp_path)
    case = pool.by_id["UCSF-PDGM-0004_nifti"]
    assert sorted(case.modalities) == ["FLAIR", "T1"]
    assert case.label == folder / "UCSF-PDGM-0004_tumor_segmentation.nii.gz"
    assert sorted(item.path.name.removeprefix("UCSF-PDGM-0004_") for item in pool.skipped) == [
        "T1_bias.nii.gz",
        "brain_segmentation.nii.gz",
    ]


@pytest.mark.parametrize("name", ["p10_T1", "p1left_T1"])
def test_a_file_of_another_patient_is_no_modality_of_its_folder(name: str, tmp_path: Path) -> None:
    touch(tmp_path / "p1" / "T2.nii.gz")
    touch(tmp_path / "p1" / f"{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: list(case.modalities) for case in pool.cases} == {"p1": ["T2"]}
    assert [item.path.name for item in pool.skipped] == [f"{name}.nii.gz"]


def test_a_folder_that_begins_like_a_modality_keeps_the_modality(tmp_path: Path) -> None:
    touch(tmp_path / "P" / "PET.nii.gz")
    assert list(find_pool(tmp_path).by_id["P"].modalities) == ["PET"]


def test_dicom_folders_stay_dicom_folders_beside_images_made_from_them(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study="1.2")
    touch(tmp_path / "p1" / "made" / "CT.nii.gz")
    pool = find_pool(tmp_path)
    assert (pool.layout, list(pool.by_id)) == ("dicom", ["p1"])
    assert [item.path.name for item in pool.skipped] == ["made"]


def test_a_folder_of_more_cases_than_a_patient_has_sessions_holds_patients() -> None:
    places = [("mine", f"p{number}") for number in range(MOST_SESSIONS + 1)]
    assert patients_of([*places, ("p", "x")]) == [*(place[-1] for place in places), "p"]
    assert patients_of([*places[:-1], ("p", "x")]) == ["mine"] * MOST_SESSIONS + ["p"]


@pytest.mark.parametrize(
    ("places", "patients"),
    [
        ([("UPENN", "structural", "a"), ("UPENN", "structural", "b")], ["a", "b"]),
        ([("p1", "ses-1"), ("p1", "ses-2")], ["p1", "p1"]),
        ([("all", "p1", "x"), ("all", "p1", "y"), ("all", "p2", "z")], ["p1", "p1", "p2"]),
        ([("p1", "mri")], ["p1"]),
    ],
)
def test_a_folder_that_holds_all_cases_is_a_patient_only_if_it_holds_sessions(
    places: list[tuple[str, ...]], patients: list[str]
) -> None:
    assert patients_of(places) == patients


def test_the_id_of_a_session_does_not_change_when_another_patient_comes() -> None:
    """Labels are stored under the id."""
    before, after = [("p1", "s1")], [("p1", "s1"), ("p2", "s1")]
    assert ids_of(before) == ids_of(after)[:1] == ["p1_s1"]


def test_ids_take_as_many_folders_as_they_need() -> None:
    places = [("x", "a", "scans"), ("y", "a", "scans"), ("y", "b", "scans"), ("z", "only")]
    assert ids_of(places) == ["x_a_scans", "y_a_scans", "b_scans", "only"]


@pytest.mark.parametrize("name", ["MR/p1_T1_bias.nii.gz", "sub-1/dwi/sub-1_dir-AP_sbref.nii.gz"])
def test_a_name_that_says_something_else_is_not_named_after_its_folder(name: str, tmp_path: Path) -> None:
    touch(tmp_path / name)
    touch(tmp_path / "MR" / "p1_T1.nii.gz")
    touch(tmp_path / "MR" / "p2_T1.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: list(case.modalities) for case in pool.cases} == {"p1": ["T1"], "p2": ["T1"]}
    assert [item.path for item in pool.skipped] == [tmp_path / name]


def test_a_label_in_a_folder_of_labels_is_named_and_leaves_the_id_alone(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "p1_T1.nii.gz")
    label = touch(tmp_path / "masks" / "p1_seg.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: case.label for case in pool.cases} == {"p1": None}
    assert [(item.path, "beside an image" in item.reason) for item in pool.skipped] == [(label, True)]


@pytest.mark.parametrize("names", [("p1_ses-1_T1", "p1_ses-2_T1"), ("p1_visit1/T1", "p1_visit2/T1")])
def test_sessions_that_their_names_call_sessions_are_one_patient(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    for name in (*names, "p2_10_T1"):
        touch(tmp_path / f"{name}.nii.gz")
    patients = {case.patient for case in find_pool(tmp_path).cases}
    assert patients == ({"p1", "p2_10"} if "/" not in names[0] else {"p1"})
