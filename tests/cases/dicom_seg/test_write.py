from __future__ import annotations

import os
import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lib.cases.case import CaseError, Source
from lib.cases.dicom_seg.read import parse, read_segmentation
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import Volume, read_grid, resample
from tests.cases.dicom_seg.conftest import GLIOMA, READER, WRITTEN, Study, read_study
from tests.support.images import write_series
from tests.support.viewers import read_in_slicer

MODEL = Author("CIML", "3")


def through_file(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, write_like_original=False)
    return parse(file.getvalue())


@pytest.mark.parametrize(
    ("patient", "modality"), [("STS_008", "CT"), ("STS_008", "PET"), ("STS_025", "MR_T1")]
)
def test_values_2_and_3_without_1_come_back_voxel_for_voxel(patient: str, modality: str) -> None:
    study = read_study(patient, modality)
    assert set(np.unique(study.parts)) == {0, 2, 3}
    back = read_segmentation(
        through_file(study.seg(study.parts, author=MODEL)), study.series.places, labels=GLIOMA
    )
    np.testing.assert_array_equal(back.array, study.parts)


def test_no_lesion_is_a_segmentation_with_every_segment_and_comes_back_empty(mr: Study) -> None:
    dataset = through_file(mr.seg(np.zeros_like(mr.gtv)))
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == list(GLIOMA)
    assert dataset.NumberOfFrames == len(GLIOMA)
    assert dataset.ContentDescription == "no lesion"
    assert not read_segmentation(dataset, mr.series.places, labels=GLIOMA).array.any()


def test_every_instance_of_the_series_is_referenced_even_where_nothing_is_painted(mr: Study) -> None:
    instances = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in mr.series.files}
    for array in (mr.parts, np.zeros_like(mr.gtv)):
        (reference,) = mr.seg(array).ReferencedSeriesSequence
        assert reference.SeriesInstanceUID == mr.series.uid
        assert {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence} == instances


def test_each_segment_has_its_code_its_colour_and_its_tracking(mr: Study) -> None:
    necrosis, oedema, enhancing = mr.seg(mr.parts).SegmentSequence
    assert [
        item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in (necrosis, oedema, enhancing)
    ] == [
        "Necrosis",
        "Edema",
        "Enhancing Lesion",
    ]
    assert oedema.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert oedema.TrackingID == "STS_025 oedema"
    assert len({str(item.TrackingUID) for item in (necrosis, oedema, enhancing)}) == 3
    assert len({tuple(item.RecommendedDisplayCIELabValue) for item in (necrosis, oedema, enhancing)}) == 3


def test_a_models_result_is_automatic_with_its_name_and_version(mr: Study) -> None:
    dataset = mr.seg(mr.gtv, labels={"GTV": 1}, author=MODEL)
    (segment,) = dataset.SegmentSequence
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "CIML")
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("CIML", "3")
    assert dataset.SeriesDescription.startswith("CIML 3: segmentation of IBSI_1_STS_025_MR_T1")
    assert not dataset.ContentCreatorName


def test_a_readers_label_is_manual_and_says_who(mr: Study) -> None:
    dataset = mr.seg(mr.gtv, labels={"GTV": 1}, author=Author("Łucja=Ω\\x"))
    assert dataset.SegmentSequence[0].SegmentAlgorithmType == "MANUAL"
    assert str(through_file(dataset).ContentCreatorName) == "Łucja Ω/x"


def test_the_same_label_twice_differs_in_nothing_but_uids(mr: Study) -> None:
    once, twice = mr.seg(mr.parts), mr.seg(mr.parts)
    assert once.SOPInstanceUID != twice.SOPInstanceUID
    new_uid = re.compile(r"1\.2\.826\.0\.1\.3680043\.10\.511\.3\.\d+")
    texts = {new_uid.sub("new", dataset.to_json()) for dataset in (once, twice)}
    assert len(texts) == 1


def test_a_structure_keeps_its_tracking_uid_throughout_its_study_and_there_alone(mr: Study) -> None:
    def tracking(study: Study) -> str:
        return str(study.seg(study.gtv, labels={"GTV": 1}).SegmentSequence[0].TrackingUID)

    assert tracking(mr) == tracking(mr.renamed(uid=generate_uid()))
    assert tracking(mr) != tracking(mr.renamed(study=generate_uid()))


def test_a_sites_own_names_survive_whatever_their_alphabet_and_length(mr: Study) -> None:
    labels = {"Metástasis \\ hepática": 1, "腫瘍": 2, "x" * 80: 3}
    dataset = through_file(mr.seg(mr.parts, labels=labels))
    assert [len(segment.SegmentLabel) for segment in dataset.SegmentSequence] == [21, 2, 64]
    back = read_segmentation(dataset, mr.series.places, labels=labels)
    np.testing.assert_array_equal(back.array, mr.parts)


def test_a_label_on_another_grid_is_moved_to_the_series(mr: Study) -> None:
    pet = read_study("STS_025", "PET")
    dataset = write_segmentation(
        Volume(pet.gtv, pet.grid), mr.series, labels={"GTV": 1}, author=READER, written=WRITTEN
    )
    back = read_segmentation(dataset, mr.series.places, labels={"GTV": 1})
    moved = resample(Volume(pet.gtv, pet.grid), mr.grid, nearest=True)
    assert moved.array.any()
    np.testing.assert_array_equal(back.array, moved.array)


def test_headers_that_lack_what_no_viewer_needs_are_enough(tmp_path: Path) -> None:
    write_series(tmp_path, modality="MR", description="T1", study=generate_uid(), PatientSex="unknown")
    series, grid = read_series(tmp_path), read_grid(Source(tmp_path))
    array = np.zeros(grid.shape, dtype=np.uint8)
    array[1, 2, 3] = 1
    dataset = write_segmentation(
        Volume(array, grid), series, labels={"GTV": 1}, author=READER, written=WRITTEN
    )
    back = read_segmentation(through_file(dataset), series.places, labels={"GTV": 1})
    np.testing.assert_array_equal(back.array, array)


def test_a_series_without_a_frame_of_reference_is_an_error_that_names_it(tmp_path: Path) -> None:
    uid = write_series(tmp_path, modality="MR", description="", study=generate_uid())
    for path in tmp_path.iterdir():
        header = pydicom.dcmread(path)
        del header.FrameOfReferenceUID
        header.save_as(path)
    series, grid = read_series(tmp_path), read_grid(Source(tmp_path))
    label = Volume(np.ones(grid.shape, dtype=np.uint8), grid)
    with pytest.raises(CaseError, match=f"series {uid} must have complete DICOM headers"):
        write_segmentation(label, series, labels={"GTV": 1}, author=READER, written=WRITTEN)


def test_a_value_that_no_label_has_is_an_error(mr: Study) -> None:
    with pytest.raises(CaseError, match="must hold 0 and 1; got 2, 3"):
        mr.seg(mr.parts, labels={"GTV": 1})


def test_slicer_reads_what_was_written_and_no_lesion_too(mr: Study, tmp_path: Path) -> None:
    masks = read_in_slicer(mr.seg(mr.parts), tmp_path / "parts")
    assert list(masks) == list(GLIOMA)
    for name, mask in masks.items():
        np.testing.assert_array_equal(
            resample(mask, mr.grid, nearest=True).array > 0, mr.parts == GLIOMA[name], err_msg=name
        )
    masks = read_in_slicer(mr.seg(np.zeros_like(mr.gtv)), tmp_path / "no lesion")
    assert list(masks) == list(GLIOMA)
    assert not any(mask.array.any() for mask in masks.values())


@pytest.mark.parametrize("painted", ["every value", "2 and 3", "nothing"])
def test_dciodvfy_finds_no_error(painted: str, mr: Study, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        missing = (
            "dciodvfy must be installed for this: sudo apt-get install --no-install-recommends dicom3tools"
        )
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    array = mr.parts if painted == "2 and 3" else np.zeros_like(mr.gtv)
    if painted == "every value":
        array = np.where(np.arange(len(mr.gtv))[:, None, None] % 2, mr.gtv, mr.parts)
        assert set(np.unique(array)) == {0, 1, 2, 3}
    author = MODEL if painted == "2 and 3" else READER
    mr.seg(array, author=author).save_as(tmp_path / "seg.dcm", write_like_original=False)
    found = subprocess.run(
        ["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True, timeout=60, check=False
    )
    lines = found.stderr.splitlines()
    assert "Segmentation" in lines, "it must have been recognised"
    assert not [line for line in lines if line.startswith("Error")]
