"""Data sets in BIDS: sessions are cases, subjects are patients, and only a single label is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.cases.case import is_safe_name
from lib.cases.discovery.layouts import find_pool
from lib.cases.pool import Pool
from tests.support.images import write_image
from tests.support.mixed_trees import touch


def reason_of(pool: Pool, name: str) -> str:
    (reason,) = {item.reason for item in pool.skipped if item.path.name == name}
    return reason


def write_session(root: Path, subject: str, session: str, *suffixes: str, datatype: str = "anat") -> None:
    stem = "_".join(filter(None, (subject, session)))
    for suffix in suffixes:
        touch(root / subject / session / datatype / f"{stem}_{suffix}.nii.gz")


def test_a_session_is_a_case_and_a_subject_a_patient(tmp_path: Path) -> None:
    for subject, session in (("sub-01", "ses-01"), ("sub-01", "ses-02"), ("sub-02", "ses-01")):
        write_session(tmp_path, subject, session, "T1w", "T2w", "FLAIR", "ce-gadolinium_T1w")
        write_session(tmp_path, subject, session, "pet", datatype="pet")
    pool = find_pool(tmp_path)
    assert pool.layout == "bids"
    assert {case.id: case.patient for case in pool.cases} == {
        "sub-01_ses-01": "sub-01",
        "sub-01_ses-02": "sub-01",
        "sub-02_ses-01": "sub-02",
    }
    assert pool.modalities == ("T1", "T1ce", "T2", "FLAIR", "PET")
    assert not pool.incomplete
    assert all(map(is_safe_name, pool.by_id))
    assert pool.skipped == ()


def test_a_subject_without_sessions_is_one_case(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", "", "T1w", "acq-highres_T2w")
    case = find_pool(tmp_path).by_id["sub-01"]
    assert sorted(case.modalities) == ["T1", "T2"]
    assert case.notes == ()


def test_a_session_in_the_names_alone_is_a_case_too(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        touch(tmp_path / "sub-01" / "anat" / f"sub-01_{session}_T1w.nii.gz")
    assert {case.id: case.patient for case in find_pool(tmp_path).cases} == {
        "sub-01_ses-1": "sub-01",
        "sub-01_ses-2": "sub-01",
    }


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("T2star", "'T2star' is not one"),
        ("bold", "'bold' is not one"),
        ("part-phase_T1w", "only magnitude"),
        ("ce-gadolinium_FLAIR", "only T1w is a known modality"),
    ],
)
def test_an_image_of_no_known_modality_is_named(suffix: str, reason: str, tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", "", "T2w", suffix)
    pool = find_pool(tmp_path)
    assert list(pool.by_id["sub-01"].modalities) == ["T2"]
    assert reason in reason_of(pool, f"sub-01_{suffix}.nii.gz")


@pytest.mark.parametrize(("suffix", "modality"), [("dwi", "DWI"), ("pet", "PET")])
def test_a_series_of_volumes_is_named_and_leaves_the_case_its_other_images(
    suffix: str, modality: str, tmp_path: Path
) -> None:
    write_session(tmp_path, "sub-01", "", "T1w")
    for subject, shape in (("sub-01", (4, 4, 4, 7)), ("sub-02", (4, 4, 4))):
        write_image(tmp_path / subject / suffix / f"{subject}_{suffix}.nii.gz", shape=shape)
    pool = find_pool(tmp_path)
    assert list(pool.by_id["sub-01"].modalities) == ["T1"]
    assert "it holds 7" in reason_of(pool, f"sub-01_{suffix}.nii.gz")
    assert list(pool.by_id["sub-02"].modalities) == [modality]


@pytest.mark.parametrize("name", ["sub-02_ses-1_T2w", "sub-01_ses-2_T2w", "T2w", "sub-011_ses-1_T2w"])
def test_an_image_that_names_another_patient_or_session_than_its_folder_is_left_out(
    name: str, tmp_path: Path
) -> None:
    write_session(tmp_path, "sub-01", "ses-1", "T1w")
    write_session(tmp_path, "sub-02", "ses-1", "T1w")
    touch(tmp_path / "sub-01" / "ses-1" / "anat" / f"{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: list(case.modalities) for case in pool.cases} == {
        "sub-01_ses-1": ["T1"],
        "sub-02_ses-1": ["T1"],
    }
    assert "they say sub-01_ses-1" in reason_of(pool, f"{name}.nii.gz")


@pytest.mark.parametrize(
    "label",
    [
        "derivatives/lesions/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask",
        "derivatives/sub-01/ses-1/sub-01_ses-1_msk",
        "derivatives/x/sub-01_dseg",
        "derivatives/x/sub-01_space-T1w_desc-tumour_mask",
        "derivatives/labels/sub-01/anat/sub-01_T1w_lesion-manual",
        "sub-01/ses-1/anat/sub-01_ses-1_seg",
    ],
)
@pytest.mark.parametrize("raw", ["", "rawdata"])
def test_the_only_label_of_a_session_is_its_label(label: str, raw: str, tmp_path: Path) -> None:
    write_session(tmp_path / raw, "sub-01", "ses-1", "T1w")
    write_session(tmp_path / raw, "sub-02", "ses-1", "T1w")
    path = touch(tmp_path / (raw if label.startswith("sub") else "") / f"{label}.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: case.label for case in pool.cases} == {"sub-01_ses-1": path, "sub-02_ses-1": None}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("desc-brain_mask", "the brain or its tissues"),
        ("brainmask", "the brain or its tissues"),
        ("label-GM_mask", "the brain or its tissues"),
        ("desc-aseg_dseg", "the brain or its tissues"),
        ("space-MNI152NLin2009cAsym_label-lesion_mask", "lies in the space MNI152NLin2009cAsym"),
        ("desc-preproc_T1w", "only labels are read"),
        ("label-lesion_probseg", "no probability"),
    ],
)
def test_what_is_no_lesion_on_the_images_never_becomes_a_label(
    name: str, reason: str, tmp_path: Path
) -> None:
    write_session(tmp_path, "sub-01", "", "T1w")
    touch(tmp_path / "derivatives" / "prep" / "sub-01" / f"sub-01_{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert pool.by_id["sub-01"].label is None
    assert reason in reason_of(pool, f"sub-01_{name}.nii.gz")


def test_of_several_labels_none_is_used_and_the_case_says_so(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", "", "T1w")
    for name in ("seg-manual", "lesion-manual"):
        touch(tmp_path / "derivatives" / f"sub-01_T1w_{name}.nii.gz")
    pool = find_pool(tmp_path)
    (note,) = pool.by_id["sub-01"].notes
    assert pool.by_id["sub-01"].label is None
    assert note.startswith("label: none of 2 is used")
    assert "none is used" in reason_of(pool, "sub-01_T1w_seg-manual.nii.gz")


def test_a_label_without_a_session_is_not_given_to_one_of_two_sessions(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        write_session(tmp_path, "sub-01", session, "T1w")
    touch(tmp_path / "derivatives" / "sub-01_mask.nii.gz")
    pool = find_pool(tmp_path)
    assert [case.label for case in pool.cases] == [None, None]
    assert "it fits 2" in reason_of(pool, "sub-01_mask.nii.gz")


def test_two_data_sets_with_the_same_subjects_are_not_mixed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_session(tmp_path / name, "sub-01", "", "T1w")
        touch(tmp_path / name / "derivatives" / "sub-01_mask.nii.gz")
    pool = find_pool(tmp_path)
    assert {case.id: case.label for case in pool.cases} == {
        f"{name}_sub-01": tmp_path / name / "derivatives" / "sub-01_mask.nii.gz" for name in ("one", "two")
    }


def test_sidecars_share_one_reason(tmp_path: Path) -> None:
    write_session(tmp_path, "sub-01", "", "T1w")
    for name in ("dataset_description.json", "participants.tsv", "sub-01/anat/a.bvec", "sub-01/anat/a.bval"):
        touch(tmp_path / name)
    pool = find_pool(tmp_path)
    assert {item.reason for item in pool.skipped} == {"it describes images and is not read."}


def test_a_patients_folder_that_is_called_like_a_subject_stays_the_layout_folder(tmp_path: Path) -> None:
    for name in ("sub-01_T1", "sub-01_seg"):
        touch(tmp_path / "sub-01" / f"{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert (pool.layout, list(pool.by_id)) == ("folder", ["sub-01"])
    assert pool.cases[0].label is not None
