"""Names of files as people and programs give them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from lib.cases.discovery.layouts import find_pool
from tests.support.mixed_trees import touch


@pytest.mark.parametrize(
    ("name", "id", "modality"),
    [
        ("UCSF-PDGM-0004_FLAIR.nii.gz", "UCSF-PDGM-0004", "FLAIR"),
        ("BraTS-GLI-00000-000-t2W.nii.gz", "BraTS-GLI-00000-000", "T2"),
        ("p01_T1.NII.GZ", "p01", "T1"),
        ("p01_T1.Nii", "p01", "T1"),
        ("p 01_T1.nii.gz", "p 01", "T1"),
        ("p01 T1.nii.gz", "p01", "T1"),
        ("p01.T1.nrrd", "p01", "T1"),
        ("p01_T1 .nii.gz", "p01", "T1"),
        (unicodedata.normalize("NFD", "Müller_T1.nii.gz"), "Müller", "T1"),
        (unicodedata.normalize("NFC", "Müller_T1.nii.gz"), "Müller", "T1"),
        (unicodedata.normalize("NFD", "Müller/T1.nii.gz"), "Müller", "T1"),
        (unicodedata.normalize("NFD", "Müller/") + "Müller_T1.nii.gz", "Müller", "T1"),
        (unicodedata.normalize("NFD", "Müller/s1/T1.nii.gz"), "Müller_s1", "T1"),
    ],
)
def test_a_name_is_read(name: str, id: str, modality: str, tmp_path: Path) -> None:
    path = touch(tmp_path / name)
    pool = find_pool(tmp_path)
    assert {case.id: list(case.modalities) for case in pool.cases} == {id: [modality]}
    assert pool.cases[0].modalities[modality].path == path
    assert pool.skipped == ()


@pytest.mark.parametrize(
    ("name", "word"), [("UCSF-PDGM-0004_T1_bias", "bias"), ("p1_DWI_bias", "bias"), ("p1_T1gad", "T1gad")]
)
def test_a_name_that_does_not_end_in_a_modality_is_refused_by_its_last_word(
    name: str, word: str, tmp_path: Path
) -> None:
    touch(tmp_path / f"{name}.nii.gz")
    touch(tmp_path / "p1_T2.nii.gz")
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["p1"]
    assert [f"'{word}' is not one" in item.reason for item in pool.skipped] == [True]


def test_a_patient_is_found_by_a_name_in_either_form_of_unicode(tmp_path: Path) -> None:
    touch(tmp_path / unicodedata.normalize("NFD", "Müller") / "T1.nii.gz")
    pool = find_pool(tmp_path)
    for form in ("NFC", "NFD"):
        assert pool.resolve(unicodedata.normalize(form, "Müller_T1"))[1] == "T1"


def test_one_name_in_two_forms_of_unicode_is_no_silent_choice(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        touch(tmp_path / unicodedata.normalize(form, "Müller") / "T1.nii.gz")
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["Müller"]
    assert ["would share the name" in item.reason for item in pool.skipped] == [True]


def test_a_label_for_no_image_is_named(tmp_path: Path) -> None:
    for name in ("p1_T1", "p1_brain_segmentation"):
        touch(tmp_path / f"{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert pool.by_id["p1"].label is None
    assert [(item.path.name, "a label must lie beside an image" in item.reason) for item in pool.skipped] == [
        ("p1_brain_segmentation.nii.gz", True)
    ]


@pytest.mark.parametrize("word", ["tumor_segmentation", "Tumour-Mask", "lesion_seg", "GTV_label"])
def test_a_label_may_be_named_in_two_words(word: str, tmp_path: Path) -> None:
    for name in ("p1_T1", f"p1_{word}"):
        touch(tmp_path / f"{name}.nii.gz")
    label = find_pool(tmp_path).by_id["p1"].label
    assert label is not None
    assert label.name == f"p1_{word}.nii.gz"
